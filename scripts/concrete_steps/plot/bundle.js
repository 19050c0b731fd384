// Unpacks the CircuitsVis bundle, wakes the figures that wait for it, and keeps it for later visits.
(() => {
  const packed = Uint8Array.from(atob(BUNDLE), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(unpacked).text().then((source) => {
    window.concreteSteps.install(source);
    window.caches?.open("concrete-steps").then((cache) => cache.put(KEY, new Response(source))).catch(() => {});
  });
})();
