"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;

  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  // "@name" becomes the theme's colour of that name, anywhere in a plot.
  const coloured = (value) => {
    if (typeof value === "string") return /^@[a-z0-9]+$/.test(value) ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part)]));
    }
    return value;
  };

  const axis = (own) => ({
    gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: true, exponentformat: "power",
    ...own,
    title: { standoff: 6, ...(own && own.title) },
  });

  const layout = (own) => {
    const full = {
      font: { family: "system-ui, sans-serif", size: 12, color: colour("text") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 8, b: 40 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("line"), activecolor: colour("text") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("text") } },
      dragmode: window.matchMedia("(pointer: fine)").matches ? "zoom" : false, ...own,
    };
    if (own.scene) {
      const sides = ["xaxis", "yaxis", "zaxis"].map((name) => [name, axis(own.scene[name])]);
      full.scene = { ...own.scene, ...Object.fromEntries(sides) };
      return full;
    }
    for (const name of ["xaxis", "yaxis", "yaxis2"]) if (name !== "yaxis2" || own[name]) full[name] = axis(own[name]);
    return full;
  };

  const config = (turns) => ({
    responsive: true, displaylogo: false, showTips: false, displayModeBar: "hover",
    modeBarButtons: [turns ? ["toImage", "tableRotation", "resetCameraDefault3d"] : ["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });

  // The layout's camera lags behind one that was dragged after the slider had moved it; the scene's own does not.
  const cameraOf = (place) => place._fullLayout.scene._scene.getCamera();

  // Where a surface is seen from: as it was turned, else as planned, from further off where there is little room.
  const seen = (place, camera) => {
    if (place._fullLayout && place._fullLayout.scene) return cameraOf(place);
    const far = Math.max(1, 480 / place.clientWidth), { x, y, z } = camera.eye;
    return { ...camera, eye: { x: far * x, y: far * y, z: far * z } };
  };

  const draw = (theme) => {
    root.dataset.theme = theme;
    const drawing = Object.entries(figures).map(([name, figure]) => {
      const place = document.querySelector(`[data-figure="${name}"]`);
      const own = coloured(figure.layout);
      if (own.scene) own.scene.camera = seen(place, own.scene.camera);
      if (own.scene && place.clientWidth < 480) own.scene.zaxis.title.text = ""; // the caption says it
      const labels = own.xaxis && own.xaxis.ticktext;
      if (labels && labels.length > 12 && place.clientWidth < 560) own.xaxis.showticklabels = false;
      const paper = root.classList.contains("paper") ? { width: place.clientWidth } : {};
      return Plotly.react(place, coloured(figure.data), { ...layout(own), ...paper }, config(Boolean(own.scene)));
    });
    Promise.all(drawing).then(() => { root.dataset.drawn = theme; });
  };

  const current = () => chosen || (system.matches ? "dark" : "light");
  document.getElementById("theme").addEventListener("click", () => {
    chosen = current() === "dark" ? "light" : "dark";
    draw(current());
  });
  system.addEventListener("change", () => draw(current()));

  // On paper: light, nothing folded but blocks that are alike, and plots as wide as a sheet.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open]):not(.fold)")];
    folded.forEach((part) => { part.open = true; });
    root.classList.add("paper");
    draw("light");
  });
  window.addEventListener("afterprint", () => {
    folded.forEach((part) => { part.open = false; });
    root.classList.remove("paper");
    draw(current());
  });

  // A slider for each surface: the eye walks around it at its own height.
  for (const slider of document.querySelectorAll("[data-turns]")) {
    const place = document.querySelector(`[data-figure="${slider.dataset.turns}"]`);
    slider.addEventListener("input", () => {
      const eye = cameraOf(place).eye, far = Math.max(0.3, Math.hypot(eye.x, eye.y)), angle = slider.value * Math.PI / 180;
      Plotly.relayout(place, { "scene.camera.eye": { x: far * Math.cos(angle), y: far * Math.sin(angle), z: eye.z } });
    });
  }

  // What a box of the drawing says, under the pointer or the focus.
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    const part = event.target.closest && event.target.closest("[data-tip]");
    if (!part) { hide(); return; }
    tip.textContent = part.dataset.tip;
    tip.hidden = false;
    const box = part.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = box.bottom + 8 + own.height < window.innerHeight;
    tip.style.left = `${Math.max(8, Math.min(box.left, window.innerWidth - own.width - 8))}px`;
    tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - own.height - 8)}px`;
  };
  for (const name of ["pointerover", "focusin", "click"]) document.addEventListener(name, show);
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  draw(current());
})();
