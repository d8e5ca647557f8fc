"""An indexing job in a process of its own, so that another version of the sources can be measured in the same way.

    python indexing_job.py MODEL PHOTOS GALLERY DEVICE

It needs what every version has, and prints what it measured as JSON.
"""

import json
import resource
import sys
from contextlib import closing
from pathlib import Path

from index.gallery.directory import Gallery
from index.jobs import index_photos
from index.sources import list_photos


def processor_seconds() -> float:
    """Of this process with all its threads, and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(model: str, photos: str, gallery: str, device: str) -> None:
    """Runs the job: from loading the model to publishing the gallery."""
    with closing(Gallery.create(Path(gallery), Path(model))) as created:
        before = processor_seconds()
        report = index_photos(created, list_photos(photos), device)
        result = {
            "report": str(report),
            "done": report.encoded + report.rejected,
            "seconds": report.seconds,
            "processor": processor_seconds() - before,
            "stages": getattr(getattr(report, "times", None), "processor", {}),
            "problems": created.problems(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
