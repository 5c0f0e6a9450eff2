"""The page of `tljax serve` and its one address for images, as a Flask application."""

import base64
import hashlib
import ipaddress
import logging
import re
import socket

import flask
from flask import Request, Response
from werkzeug.exceptions import HTTPException

from tljax.records.pages import page
from tljax.training.serving.predictor import Predictor
from tljax.training.serving.uploads import UploadError

INLINE = re.compile(r'<(script|style)>(.*?)</\1>', re.DOTALL)
HEADERS = {
    'Cache-Control': 'no-store',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


def make(predictor: Predictor, title: str, host: str, most_bytes: int) -> flask.Flask:
    """The application: `GET /` is the page, and `POST /predict` answers for an image.

    An image is the whole body of a request, so that no part of it is a file for the server's disk.
    Every refused request is answered with a 4xx status and JSON with one entry, `error`.

    Args:
        predictor: answers for images.
        title: the heading of the page.
        host: that the server listens at, which requests may name.
        most_bytes: the largest size of an image.
    """
    application = flask.Flask(__name__, static_folder=None)
    application.config['MAX_CONTENT_LENGTH'] = most_bytes
    html = page.serving(title, predictor.notes, most_bytes)
    policy = content_security_policy(html)

    @application.before_request
    def check() -> None:
        check_host(flask.request, host)

    @application.get('/')
    def show() -> Response:
        return Response(html, mimetype='text/html')

    @application.post('/predict')
    def predict() -> Response:
        return flask.jsonify(predictor.answer(_body(flask.request, most_bytes)))

    @application.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS | {'Content-Security-Policy': policy})
        return response

    application.register_error_handler(UploadError, _refused)
    application.register_error_handler(HTTPException, _failed)
    application.register_error_handler(Exception, _unexpected)
    return application


def _body(request: Request, most_bytes: int) -> bytes:
    """The content of the image that a request sends."""
    limit = f'wanted at most {most_bytes / 1e6:.3g} MB'
    if request.content_length is not None and request.content_length > most_bytes:
        raise UploadError(f'This file has {request.content_length / 1e6:.3g} MB, {limit}.', 413)
    data = request.get_data(cache=False)
    if not data:
        raise UploadError('This file is empty.', 422)
    return data


def check_host(request: Request, host: str) -> None:
    """Refuses a request that a page of another site may have sent.

    With DNS rebinding the name of another site leads to this server, so a request has to name an
    IP address, `localhost`, this machine, or the host that the server listens at.

    Raises:
        UploadError: the request names another host or comes from a page of another one.
    """
    named = request.host
    name = re.sub(r':\d*$', '', named).strip('[]').lower()
    if name not in {'localhost', host.lower(), socket.gethostname().lower()} and not _is_ip(name):
        raise UploadError('The request names a host that this server does not answer for.', 421)
    origin = request.headers.get('Origin')
    if origin is not None and origin.partition('://')[2] != named:
        raise UploadError('The request comes from a page of another site.', 403)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def content_security_policy(html: str) -> str:
    """A policy that permits the scripts and styles in a page, data URIs as images, and no more."""
    hashes: dict[str, list[str]] = {'script': [], 'style': []}
    for kind, text in INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return '; '.join(
        [
            "default-src 'none'",
            f'script-src {" ".join(hashes["script"])}',
            f'style-src {" ".join(hashes["style"])}',
            'img-src data:',
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _error(message: str, status: int) -> Response:
    response = flask.jsonify({'error': message})
    response.status_code = status
    return response


def _refused(error: UploadError) -> Response:
    return _error(str(error), error.status)


def _failed(error: HTTPException) -> Response:
    return _error(error.name, error.code or 500)


def _unexpected(error: Exception) -> Response:
    logging.getLogger(__name__).error('a request failed', exc_info=error)
    return _error('The server failed; its console has the reason.', 500)
