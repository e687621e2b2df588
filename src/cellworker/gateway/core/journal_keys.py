"""The keys of the journal: made from checked names, and read back into them.

===========================================  =======================================================================
``.journal/<experiment>/<owner>/<slot>``     one request
``.journal/<experiment>/<owner>/alive``      renewed as long as the owner, a pod, has requests open
``.dead/<experiment>/<etag>``                a request that was given up
===========================================  =======================================================================
"""

import re
from dataclasses import dataclass

from cellworker.identifiers import ETag, ExperimentId, PodName, refuse

__all__ = ["ROOT", "AliveKey", "EntryKey", "buried_key", "home_of", "parse_key"]

ROOT = ".journal/"
_DEAD = ".dead/"
_ALIVE = "alive"
# Numbers have one spelling, so that a parsed key is written back unchanged.
_SLOT = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class AliveKey:
    """Key of the object that shows that a pod lives."""

    experiment_id: ExperimentId
    owner: PodName

    @property
    def text(self) -> str:
        """The key."""
        return f"{home_of(self.experiment_id, self.owner)}{_ALIVE}"


@dataclass(frozen=True, slots=True)
class EntryKey:
    """Key of one request."""

    experiment_id: ExperimentId
    owner: PodName
    slot: int

    @property
    def text(self) -> str:
        """The key."""
        return f"{home_of(self.experiment_id, self.owner)}{self.slot}"

    @property
    def alive(self) -> AliveKey:
        """Key of the object that shows that its owner lives."""
        return AliveKey(self.experiment_id, self.owner)


def home_of(experiment_id: ExperimentId, owner: PodName | None = None) -> str:
    """Return the prefix of the keys of an experiment, or of one of its owners."""
    return f"{ROOT}{experiment_id}/" if owner is None else f"{ROOT}{experiment_id}/{owner}/"


def buried_key(experiment_id: ExperimentId, etag: ETag) -> str:
    """Return the key under which a request that was given up is reported."""
    return f"{_DEAD}{experiment_id}/{etag}"


def parse_key(text: str) -> EntryKey | AliveKey | None:
    """Read a key of a listing; None, logged once, for one that this journal does not write."""
    parts = text.removeprefix(ROOT).split("/")
    if text.startswith(ROOT) and len(parts) == 3:
        experiment_id, owner, name = parts
        if ExperimentId.fits(experiment_id) and PodName.fits(owner):
            if name == _ALIVE:
                return AliveKey(ExperimentId(experiment_id), PodName(owner))
            if _SLOT.fullmatch(name):
                return EntryKey(ExperimentId(experiment_id), PodName(owner), int(name))
    refuse("journal", text, "bucket")
    return None
