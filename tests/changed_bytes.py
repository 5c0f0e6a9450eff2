"""Random changes of the bytes of a file, for Hypothesis."""

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def changes(draw, data: bytes, edge_bytes: int, others: Sequence[bytes] = ()) -> bytes:
    """Bytes with up to three changes, often near their ends.

    Args:
        draw: of Hypothesis.
        data: of a file.
        edge_bytes: the length of the ends that are changed more often.
        others: files whose ends are spliced in; without any, other parts of the same file.
    """
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        last = max(0, len(changed) - 1)
        edge = st.integers(0, min(edge_bytes, last))
        place = draw(edge | edge.map(lambda i, last=last: last - i) | st.integers(0, last))
        length = draw(st.integers(1, 64))
        piece = changed[place : place + length]
        match draw(st.sampled_from(['flip', 'byte', 'cut', 'drop', 'repeat', 'zero', 'splice'])):
            case 'flip':
                changed[place : place + 1] = bytes(b ^ 1 << length % 8 for b in piece[:1])
            case 'byte':
                changed[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 'cut':
                del changed[place:]
            case 'drop':
                del changed[place : place + length]
            case 'repeat':
                changed[place:place] = piece
            case 'zero':
                changed[place : place + length] = bytes(len(piece))
            case 'splice' if others:
                other = others[draw(st.integers(0, len(others) - 1))]
                changed[place:] = other[place:]
            case 'splice':
                start = draw(st.integers(0, max(0, len(data) - length)))
                changed[place : place + length] = data[start : start + length]
    return bytes(changed)
