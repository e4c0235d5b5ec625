"""What a deployment package holds and what is known of it."""

from dataclasses import dataclass, field

from detection.suppression import DetectionSettings
from utils.tables import Row

#: What each kind of file is, in the order of the page; a package has the first two at least.
USES = {
    "weights": "weights for PyTorch",
    "graph": "boxes, scores and landmarks of every anchor",
    "suppressed": "with suppression inside",
    "fixed": "for pictures of one size",
    "half": "with float16 weights",
    "quantized": "with 8-bit convolutions",
}


@dataclass
class PackageFile:
    """A file of the package; where it is a graph, milliseconds for one picture of the size `timed_at`."""

    name: str
    size: int  #: bytes
    sha256: str
    milliseconds: float | None = None
    timed_at: str = ""


@dataclass
class Package:
    """All that the page tells."""

    model: str
    parameters: int
    float_input: bool
    settings: DetectionSettings  #: inside the graph with suppression, advised for the others
    precision: list[Row]  #: of the weights, as deployment.weights_file has them
    files: dict[str, PackageFile] = field(default_factory=dict)  #: by their kind, see USES
    differences: tuple[float, float] = (0.0, 0.0)  #: of the graph from PyTorch, largest, in pixels and in scores
    half_differences: tuple[float, float] = (0.0, 0.0)  #: the same with float16 weights
    image_size: tuple[int, int] | None = None  #: width and height of the pictures that the fixed graph takes
    calibration_pictures: int = 0
    measured_on: str = ""  #: the pictures that reduced_precision stands on
    reduced_precision: list[Row] = field(default_factory=list)  #: "graph", easy, medium, hard with fewer bits

    def name(self, kind: str) -> str:
        """Of a file that the package has."""
        return self.files[kind].name
