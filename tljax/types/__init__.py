"""The system on one page: axis letters, and the contract of every extension point.

Axis letters, used in every docstring:

    B batch    H height    W width    C channel    F feature    K class    N examples
    T token    V token of the vocabulary
    S class of the upstream task    Z class of a source of samples    O output of the head

An extension point is a small dataclass that a config constructs. Its fields are its
hyperparameters and its methods are pure functions. Any class with the methods of the protocol
will do: nothing inherits from these protocols and nothing is registered.

    protocol       methods                             file           field of the experiment
    DataSource     splits                              data           data, samples
    Backbone       stages, head, port_tables,          networks       backbone
                   preprocessing
    Head           module                              networks       head
    Adapter        add, merged                         networks       adapters
    Strategy       phases                              strategies     strategy
    Schedule       multiplier                          strategies     schedule
    Optimizer      transform                           strategies     optimizer
    Solver         the call: objective to solution     strategies     a field of Phase
    Loss           the call: logits to losses          tasks          loss
    Task           see the file                        tasks          given by the data
    Penalty        obstacle, needs, prepare, the call  penalties      penalties
    Augmentation   the call: images to images          inputs         augmentations
    Views          count, the call: images to views    inputs         test_views
    Weighing       measure                             samples        a field of samples
    Reweighing     measure, begin, update              samples        a field of samples
    Tracker        obstacle, start                     trackers       trackers

Four contracts are no field of an experiment: `Stage`, a module of a backbone; `Recognisable`, a
backbone that is recognised from its weights; `Encoded`, a stored image; and `Tracking`, a run that
is open in a tracker.
"""

from tljax.types.arrays import Array as Array
from tljax.types.arrays import Batch as Batch
from tljax.types.arrays import Params as Params
from tljax.types.arrays import Stats as Stats
from tljax.types.data import BadFiles as BadFiles
from tljax.types.data import DataSource as DataSource
from tljax.types.data import Encoded as Encoded
from tljax.types.data import Examples as Examples
from tljax.types.data import Findings as Findings
from tljax.types.data import Range as Range
from tljax.types.errors import InputError as InputError
from tljax.types.errors import MisfitError as MisfitError
from tljax.types.inputs import FILLING as FILLING
from tljax.types.inputs import PADDING as PADDING
from tljax.types.inputs import UNKNOWN as UNKNOWN
from tljax.types.inputs import AnyPreprocessing as AnyPreprocessing
from tljax.types.inputs import Augmentation as Augmentation
from tljax.types.inputs import Interpolation as Interpolation
from tljax.types.inputs import Preprocessing as Preprocessing
from tljax.types.inputs import TextPreprocessing as TextPreprocessing
from tljax.types.inputs import Views as Views
from tljax.types.inputs import gray_range_problems as gray_range_problems
from tljax.types.inputs import images_of as images_of
from tljax.types.networks import ADAPTER as ADAPTER
from tljax.types.networks import Adapter as Adapter
from tljax.types.networks import Backbone as Backbone
from tljax.types.networks import Head as Head
from tljax.types.networks import Recognisable as Recognisable
from tljax.types.networks import Stage as Stage
from tljax.types.penalties import Needs as Needs
from tljax.types.penalties import Penalty as Penalty
from tljax.types.penalties import PenaltyInputs as PenaltyInputs
from tljax.types.penalties import Setting as Setting
from tljax.types.penalties import Start as Start
from tljax.types.run_options import CachePrefix as CachePrefix
from tljax.types.run_options import Dtype as Dtype
from tljax.types.run_options import MeshShape as MeshShape
from tljax.types.run_options import OnNonfinite as OnNonfinite
from tljax.types.run_options import Sharding as Sharding
from tljax.types.samples import Domains as Domains
from tljax.types.samples import Reweighing as Reweighing
from tljax.types.samples import Seen as Seen
from tljax.types.samples import Weighing as Weighing
from tljax.types.strategies import Norm as Norm
from tljax.types.strategies import Optimizer as Optimizer
from tljax.types.strategies import Phase as Phase
from tljax.types.strategies import Rates as Rates
from tljax.types.strategies import Rule as Rule
from tljax.types.strategies import Schedule as Schedule
from tljax.types.strategies import Solution as Solution
from tljax.types.strategies import Solver as Solver
from tljax.types.strategies import Strategy as Strategy
from tljax.types.tasks import Balance as Balance
from tljax.types.tasks import Loss as Loss
from tljax.types.tasks import Score as Score
from tljax.types.tasks import Task as Task
from tljax.types.trackers import TrackedRun as TrackedRun
from tljax.types.trackers import Tracker as Tracker
from tljax.types.trackers import Tracking as Tracking
