"""Record of the images and labels of a run, by which a resumed run notices that they have changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Collection, Dict, Iterator, List, Mapping, Optional, Tuple

from ..errors import DataError
from ..files import NAME_ERRORS
from ..options import listed

_SHOWN = 5


@dataclass(frozen=True)
class DataRecord:
    """Images and labels of the lists of a run.

    Attributes
    ----------
    lists : dict of str to dict
        By ``'train'`` and ``'val'``, in the order of the images: image id to the digest of its labels.
    objects : dict of str to str
        By class with objects: the digest of all its objects, without its name, in any order.
    """

    lists: Mapping[str, Mapping[str, str]]
    objects: Mapping[str, str]

    @classmethod
    def of(cls, datasets: Mapping[str, Any]) -> DataRecord:
        """The record of datasets by role, of `Dataset` or `ClassificationDataset`."""
        lists: Dict[str, Dict[str, str]] = {role: {} for role in datasets}
        objects: Dict[str, int] = {}
        for role, dataset in datasets.items():
            for sample in dataset:
                digest = hashlib.blake2b(digest_size=8)
                for name, content in sorted(dataset.content(sample).items()):
                    value = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "big")
                    objects[name] = (objects.get(name, 0) + value) % 2**128
                    digest.update(name.encode("utf-8", NAME_ERRORS) + b"\0" + content)
                lists[role][sample.image_id] = digest.hexdigest()
        return cls(lists, {name: f"{value:032x}" for name, value in objects.items()})

    def restore(
        self, datasets: Mapping[str, Any], classes: Tuple[str, ...]
    ) -> Tuple[Dict[str, Any], List[str]]:
        """The recorded images in the recorded order, with labels that index `classes`, and notes.

        Images that were added are left out. Raises DataError, which names what differs, if images are
        missing, classes were renamed, added or removed, or most labels have changed.
        """
        by_id = {role: {sample.image_id: sample for sample in data} for role, data in datasets.items()}
        found: Dict[str, Any] = {}
        notes: List[str] = []
        for role, dataset in datasets.items():
            images, samples = self.lists[role], {**self._moved(role, by_id), **by_id[role]}
            missing = [image_id for image_id in images if image_id not in samples]
            if missing:
                self._check_classes(DataRecord.of(datasets), classes)
                raise DataError(
                    f"{dataset.name}: {len(missing)} of the run's {len(images)} images are missing: "
                    f"{listed(missing, _SHOWN)}"
                )
            found[role] = replace(dataset, samples=[samples[image_id] for image_id in images])
            added = [i for i in by_id[role] if i not in images and not self._is_in_other(role, i, by_id)]
            if added:
                notes.append(
                    f"{dataset.name}: {len(added)} images were added since the run started and are not used: "
                    f"{listed(added, _SHOWN)}"
                )
        notes += self._check_labels(DataRecord.of(found), classes)
        return {role: dataset.with_classes(classes) for role, dataset in found.items()}, notes

    def _moved(self, role: str, by_id: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
        """Samples that are new in another list: the images have been divided anew."""
        return {
            image_id: sample
            for other, samples in by_id.items()
            for image_id, sample in samples.items()
            if other != role and image_id not in self.lists[other]
        }

    def _is_in_other(self, role: str, image_id: str, by_id: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether an image that is new in the list `role` was in another one, and is not any more."""
        return any(
            image_id in images and image_id not in by_id[other]
            for other, images in self.lists.items()
            if other != role
        )

    def _check_labels(self, now: DataRecord, classes: Tuple[str, ...]) -> List[str]:
        """Notes on labels that have changed; raises DataError as `restore`."""
        self._check_classes(now, classes)
        changed, total = list(self._changed(now)), sum(map(len, self.lists.values()))
        if not changed:
            return []
        text = f"the labels or files of {len(changed)} of {total} images have changed since the run started: "
        if 2 * len(changed) > total:
            raise DataError(text + listed(changed, _SHOWN))
        return [f"{text}{listed(changed, _SHOWN)}; training goes on with the labels as they are now"]

    def _check_classes(self, now: DataRecord, classes: Tuple[str, ...]) -> None:
        renamed = {
            old: new
            for old, digest in self.objects.items()
            for new, other in now.objects.items()
            if digest == other and old != new and self.objects.get(new) != digest
        }
        check_classes(now.objects, classes, self.objects, renamed)

    def _changed(self, now: DataRecord) -> Iterator[str]:
        for role, images in now.lists.items():
            for image_id, digest in images.items():
                if self.lists[role][image_id] != digest:
                    yield image_id


def check_classes(
    present: Collection[str],
    classes: Tuple[str, ...],
    expected: Collection[str],
    renamed: Optional[Mapping[str, str]] = None,
) -> None:
    """Raise DataError if classes were added, removed or renamed.

    Parameters
    ----------
    present : collection of str
        Classes of the objects in the data.
    classes : tuple of str
        Classes of the network.
    expected : collection of str
        Those of them that must be present.
    renamed : mapping of str to str, optional
        Classes whose objects now have another class.
    """
    renamed = renamed or {}
    added = [name for name in present if name not in classes and name not in renamed.values()]
    removed = [name for name in expected if name not in present and name not in renamed]
    differences = [f"{old!r} is now called {new!r}" for old, new in renamed.items()]
    differences += [f"{name!r} is new" for name in added]
    differences += [f"{name!r} has no objects any more" for name in removed]
    if differences:
        raise DataError(f"the classes of the dataset have changed: {listed(differences, _SHOWN)}")
