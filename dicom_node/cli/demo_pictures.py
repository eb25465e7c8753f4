"""What came back from the node, drawn over the images that were sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.array.labels import renumbered
from ai_models.array.measurements import measure
from ai_models.types import Label, LabelMap
from dicom_node.imaging.display import displayed
from dicom_node.imaging.volume import load_volume
from dicom_node.results.gate import read_label_map
from dicom_node.results.overlay import write_overlays
from dicom_node.results.report_numbers import ml_text

if TYPE_CHECKING:
    from dicom_node.node import Node


def draw(node: Node, series_instance_uid: str, output: Path) -> None:
    """Read ``segmentation.dcm`` in ``output`` again, print what it measures and draw it."""
    received = output / "segmentation.dcm"
    job = node.ledger.jobs.latest()[0]
    card = node.catalog.get(job.model_id)
    if not received.exists():
        print(f"\n{card.name}: nothing was found, and the report says so")
        return
    instances = node.ledger.receipts.instances(series_instance_uid)
    loaded = load_volume(node.spool.resolve_all([instance.path for instance in instances]))
    segments = read_label_map(received, loaded.source_images, loaded.frame_numbers)
    label_map = _by_label(received, segments, card.labels)
    print(f"\nmeasured on the segmentation that came back ({card.intended_use.split('.')[0]})")
    if loaded.source_affine_lps is not None:
        found = measure(label_map, loaded.volume)
        for label in card.labels:
            if label.value in found:
                print(f"  {label.name:24} {ml_text(found[label.value].volume_ml):>8} ml, mean "
                      f"{found[label.value].mean_hu:7.1f} HU")
        display = displayed(loaded.volume.array, loaded.volume.unit, loaded.source_images[0],
                            card.labels)
        write_overlays(loaded.volume, display, label_map, card.labels, output, "overlay",
                       demonstration=card.demonstration)


def _by_label(received: Path, segments: LabelMap, labels: tuple[Label, ...]) -> LabelMap:
    """Segment numbers to label values, by segment label."""
    import pydicom

    dataset = pydicom.dcmread(received, stop_before_pixels=True)
    values = {label.name: label.value for label in labels}
    return renumbered(
        segments,
        {int(one.SegmentNumber): values[str(one.SegmentLabel)] for one in dataset.SegmentSequence},
    )
