// Draws one CircuitsVis figure over its text. Every figure carries these lines, because outputs are shown in any order;
// the bundle comes with one figure of the notebook, or from the browser's cache of an earlier visit.
(() => {
  const page = (window.concreteSteps ??= {});
  page.ready ??= new Promise((resolve) => {
    page.install = (source) => {
      if (!window.CircuitsVis) document.head.append(Object.assign(document.createElement("script"), { textContent: source }));
      resolve();
    };
    window.caches?.match(KEY).then((hit) => hit?.text()).then((source) => source && page.install(source)).catch(() => {});
  });
  page.ready.then(() => {
    for (const box of document.querySelectorAll(`[data-figure="${FIGURE}"]:not([id])`)) {
      box.id = "figure-" + Math.random().toString(36).slice(2);
      box.textContent = "";
      CircuitsVis.render(box.id, CircuitsVis.AttentionHeads, PROPS);
    }
  });
})();
