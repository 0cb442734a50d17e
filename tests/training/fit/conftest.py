"""One thread here too."""

from tests.training.models.conftest import one_thread

__all__ = ["one_thread"]
