"""Images of the node and of all components, built from Go modules and Debian packages.

Nothing here needs a container engine or an image registry: `ensure_images` builds what is
missing in the cache, `load_into_docker` hands the result to an engine for kind.
"""

from clusters.commands import Progress
from clusters.images.api import GuestFiles, ImageRequest, ImageSet
from clusters.images.build import ensure_images
from clusters.images.docker import load_into_docker
from clusters.images.errors import CancelledError, ImageBuildError, StepFailedError

__all__ = [
    "CancelledError",
    "GuestFiles",
    "ImageBuildError",
    "ImageRequest",
    "ImageSet",
    "Progress",
    "StepFailedError",
    "ensure_images",
    "load_into_docker",
]
