// Runs inside the viewer: what it makes of one series of the study that it shows.
async (seriesUid) => {
  const services = window.services;
  const failed = (error) => String((error && error.message) || error).slice(0, 300);
  const found = services.displaySetService.getActiveDisplaySets();
  const shown = found.find((set) => set.SeriesInstanceUID === seriesUid);
  if (!shown) return { error: "no display set for the series" };
  if (shown.unsupported) return { error: "unsupported display set" };
  const result = { handler: String(shown.SOPClassHandlerId).split(".").pop() };
  const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

  async function hydrate() {
    const viewportId = services.viewportGridService.getActiveViewportId();
    const answer = await window.commandsManager.runCommand("hydrateSecondaryDisplaySet", {
      displaySet: shown,
      viewportId,
    });
    await pause(2500);
    return answer;
  }

  function voxelsOf(segmentation) {
    const cache = window.cornerstone.cache;
    const labelmap = (segmentation.representationData || {}).Labelmap || {};
    let ids = labelmap.imageIds || [];
    if (!ids.length && labelmap.volumeId) ids = cache.getVolume(labelmap.volumeId).imageIds;
    const counts = {};
    for (const image of ids.map((id) => cache.getImage(id)).filter(Boolean)) {
      for (const value of image.getPixelData()) if (value) counts[value] = (counts[value] || 0) + 1;
    }
    return counts;
  }

  async function readImage() {
    const ids = shown.imageIds || (shown.images || []).map((image) => image.imageId);
    const image = await window.cornerstone.imageLoader.loadAndCacheImage(ids[0]);
    return { rows: image.rows, columns: image.columns };
  }

  try {
    if (shown.load) await shown.load({ headers: {} });
    if (shown.Modality === "SEG") {
      await hydrate();
      const held = services.segmentationService.getSegmentations();
      result.voxels = Object.assign({}, ...held.map(voxelsOf));
    } else if (shown.Modality === "RTSTRUCT") {
      await hydrate();
      const held = services.segmentationService.getSegmentations();
      result.structures = held.flatMap((one) => Object.values(one.segments).map((s) => s.label));
    } else if (shown.Modality === "SR") {
      const drawn = window.cornerstoneTools.annotation.state.getAllAnnotations();
      const here = drawn.filter((one) => one.metadata.toolName.startsWith("DICOMSRDisplay"));
      result.drawn = here.length;
      // Of a coded item the label is its code.
      const isNumber = (label) => !/^\d+$/.test(label.label);
      result.groups = (shown.measurements || []).map((group) =>
        (group.labels || []).filter(isNumber).map((label) => `${label.label} ${label.value}`)
      );
      if (shown.isRehydratable) {
        const target = { displaySetInstanceUID: shown.displaySetInstanceUID };
        const context = "CORNERSTONE_STRUCTURED_REPORT";
        await window.commandsManager.runCommand("hydrateStructuredReport", target, context);
        await pause(1500);
      }
      result.hydrated = services.measurementService.getMeasurements().length;
    } else if (result.handler === "stack") {
      Object.assign(result, await readImage());
    }
  } catch (error) {
    result.error = failed(error);
  }
  return result;
};
