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
    gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: true, ...own,
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
    for (const name of ["xaxis", "yaxis", "yaxis2"]) if (name !== "yaxis2" || own[name]) full[name] = axis(own[name]);
    return full;
  };

  const config = {
    responsive: true, displaylogo: false, showTips: false, displayModeBar: "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  const draw = (theme) => {
    root.dataset.theme = theme;
    const drawing = Object.entries(figures).map(([name, figure]) => {
      const place = document.querySelector(`[data-figure="${name}"]`);
      const own = coloured(figure.layout);
      const labels = own.xaxis && own.xaxis.ticktext;
      if (labels && labels.length > 12 && place.clientWidth < 560) own.xaxis.showticklabels = false;
      return Plotly.react(place, coloured(figure.data), layout(own), config);
    });
    Promise.all(drawing).then(() => { root.dataset.drawn = theme; });
  };

  const current = () => chosen || (system.matches ? "dark" : "light");
  document.getElementById("theme").addEventListener("click", () => {
    chosen = current() === "dark" ? "light" : "dark";
    draw(current());
  });
  system.addEventListener("change", () => draw(current()));

  // On paper: light, and nothing folded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
    draw("light");
  });
  window.addEventListener("afterprint", () => {
    folded.forEach((part) => { part.open = false; });
    draw(current());
  });
  draw(current());
})();
