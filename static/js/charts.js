// Charts of metrics: uPlot on numbers that the server has brought down to what a screen shows. Also sparklines, the curves
// of accuracy tables, predictions and residuals, and a metric over an experiment's runs.
(() => {
  "use strict";

  const SERIES = 8;
  const POLL_MS = 1500;
  const POINTS = 1000;
  const ZOOM_POINTS = 8000;
  const colour = (index) => window.Atelier.color(`--at-series-${(index % SERIES) + 1}`);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([key, value]) => (key === "class" ? (element.className = value) : element.setAttribute(key, value)));
    element.append(...children);
    return element;
  };
  // A name as it is written: marks for characters that nobody sees or that reorder what is read.
  const seen = (name) => name.replace(/[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, (char) => `⟦U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);
  const short = (value) => {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e6 || size < 1e-4 ? value.toExponential(3).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(6)));
  };
  const clock = (seconds) => {
    const s = Math.abs(seconds);
    if (s < 1) return `${Number(seconds.toFixed(3))} s`;
    if (s < 120) return `${Number(seconds.toFixed(1))} s`;
    if (s < 7200) return `${Number((seconds / 60).toFixed(1))} min`;
    return `${Number((seconds / 3600).toFixed(1))} h`;
  };

  // ---------- what every plot has in common ----------

  const axisStyle = (extra = {}) => ({
    stroke: window.Atelier.color("--at-ink-3"),
    grid: { stroke: window.Atelier.color("--at-line"), width: 1 },
    ticks: { show: false },
    font: '11px "Inter", system-ui, sans-serif',
    labelFont: '11px "Inter", system-ui, sans-serif',
    ...extra,
  });
  const yValues = (_u, splits) => splits.map((value) => (value === null ? "" : short(value)));

  // A small box beside the cursor with the value of every curve there.
  const tooltip = (title) => {
    let box;
    return {
      hooks: {
        init: (u) => { box = make("div", { class: "run-tip", hidden: "" }); u.over.append(box); },
        setCursor: (u) => {
          const { idx, left, top } = u.cursor;
          const rows = idx === null || idx === undefined || left < 0 ? [] : u.series.slice(1).map((series, n) => ({ series, value: near(u, n + 1, idx) })).filter(({ series, value }) => series.show && !series.faint && value !== null);
          box.hidden = rows.length === 0;
          if (box.hidden) return;
          box.replaceChildren(make("div", { class: "run-tip-x" }, title(u.data[0][idx])), ...rows.slice(0, 12).map(({ series, value }) => {
            const dot = make("span", { class: "run-tip-dot" });
            dot.style.background = series.tint;
            return make("div", {}, dot, make("span", { class: "run-tip-label" }, series.label), make("b", {}, short(value)));
          }));
          const flip = left > u.over.clientWidth / 2;
          box.style.left = flip ? "" : `${left + 14}px`;
          box.style.right = flip ? `${u.over.clientWidth - left + 14}px` : "";
          box.style.top = `${Math.max(0, Math.min(top - 20, u.over.clientHeight - box.offsetHeight))}px`;
        },
      },
    };
  };
  // Joined curves have no value at the other curves' places: the nearest one to the left is shown.
  const near = (u, series, idx) => {
    for (let i = idx; i >= 0 && i > idx - 400; i -= 1) {
      const value = u.data[series][i];
      if (value !== undefined) return value;
    }
    return null;
  };

  const fit = (element, plot) => {
    const observer = new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width && plot() && width !== plot().width) plot().setSize({ width, height: plot().height });
    });
    observer.observe(element);
  };

  // Exponential smoothing that starts unbiased; gaps stay gaps.
  const smoothed = (ys, weight) => {
    let last = 0;
    let count = 0;
    return ys.map((y) => {
      if (y === null || y === undefined) return y;
      last = last * weight + (1 - weight) * y;
      count += 1;
      return last / (1 - weight ** count);
    });
  };

  const getJson = async (url) => {
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  };

  // ---------- one metric, one or many runs ----------

  class Chart {
    constructor(board, name, sources) {
      this.board = board;
      this.name = name;
      this.title = seen(name);
      this.sources = sources.map((source) => ({ ...source, data: null, count: -1 }));
      this.zoomed = false;
      this.points = POINTS;
      this.visible = false;
      this.build();
    }

    build() {
      const w = this.board.words;
      this.readout = make("span", { class: "run-chart-read at-nums" });
      this.reset = make("button", { type: "button", class: "btn btn-sm btn-ghost", hidden: "" }, w.tReset);
      this.larger = make("button", { type: "button", class: "at-icon-btn", "aria-label": `${w.tFull}: ${this.title}`, "aria-pressed": "false" }, this.board.element.querySelector("[data-larger]").content.cloneNode(true));
      this.plotBox = make("div", { class: "run-plot", role: "img", "aria-label": this.title });
      this.table = make("details", { class: "run-chart-table" }, make("summary", {}, w.tTable));
      this.foot = make("span", { class: "at-sub" });
      this.element = make("figure", { class: "card run-chart" },
        make("figcaption", { class: "run-chart-head" }, make("span", { class: "run-chart-name at-truncate", title: this.title }, this.title), this.readout, this.reset, this.larger),
        this.plotBox, make("div", { class: "run-chart-foot" }, this.foot, this.table));
      this.reset.addEventListener("click", () => this.showAll());
      this.larger.addEventListener("click", () => {
        const on = this.element.classList.toggle("run-chart-large");
        this.larger.setAttribute("aria-pressed", String(on));
        this.draw();
      });
      this.table.addEventListener("toggle", () => this.fillTable());
      fit(this.plotBox, () => this.plot);
      new IntersectionObserver((entries) => {
        this.visible = entries.some((entry) => entry.isIntersecting);
        if (this.visible) this.load();
      }, { rootMargin: "300px" }).observe(this.element);
    }

    // Fetches what changed and draws it. ``counts``: points that the catalog knows, by source.
    async load(force = false) {
      if (!this.visible || this.loading) return;
      this.loading = true;
      try {
        const due = this.sources.filter((source) => force || source.data === null || source.known > source.count);
        await Promise.all(due.map(async (source) => {
          const query = new URLSearchParams({ name: this.name, axis: this.board.axis, points: this.points });
          source.data = await getJson(`${source.url}?${query}`);
          source.count = source.data.count;
        }));
        if (due.length || !this.plot) this.draw();
      } catch {
        window.Atelier.away?.();
      } finally {
        this.loading = false;
      }
    }

    tables() {
      const time = this.board.axis === "time";
      return this.sources.filter((source) => source.data?.x.length).map((source) => {
        const start = time ? source.data.x[0] : 0;
        const xs = source.data.x.map((x) => x - start);
        const ys = this.board.log ? source.data.y.map((y) => (y > 0 ? y : null)) : source.data.y;
        return { source, xs, ys, soft: this.board.smooth ? smoothed(ys, this.board.smooth) : null };
      });
    }

    draw() {
      const tables = this.tables();
      this.describe(tables);
      // While only the numbers change the plot stays: no flicker, and a zoom stays where it is.
      const joined = tables.flatMap(({ xs, ys, soft }) => (soft ? [[xs, ys], [xs, soft]] : [[xs, ys]]));
      const data = joined.length === 1 ? joined[0] : joined.length ? uPlot.join(joined) : null;
      const dots = tables.every(({ xs }) => xs.length < 60);
      const shape = JSON.stringify([tables.map(({ source }) => source.index), joined.length, this.board.log, this.board.axis, dots, document.documentElement.dataset.bsTheme, this.element.classList.contains("run-chart-large")]);
      if (this.plot && data && shape === this.shape) return this.plot.setData(data, !this.zoomed);
      this.shape = shape;
      const keep = this.zoomed && this.plot ? { min: this.plot.scales.x.min, max: this.plot.scales.x.max } : null;
      this.plot?.destroy();
      this.plot = null;
      if (!tables.length) { this.plotBox.textContent = this.board.words.tNone; return; }
      this.plotBox.textContent = "";
      const series = [{}];
      tables.forEach(({ source, soft }) => {
        const tint = colour(source.index);
        const base = { label: source.label, tint, stroke: tint, width: 1.75, points: { show: dots, size: 5, fill: tint, width: 0 } };
        series.push(soft ? { ...base, faint: true, alpha: 0.28, width: 1, points: { show: false } } : base);
        if (soft) series.push({ ...base, width: 2, points: { show: false } });
      });
      this.plot = new uPlot(this.options(series), data, this.plotBox);
      if (keep) this.plot.setScale("x", keep);
    }

    options(series) {
      const time = this.board.axis === "time";
      const say = (x) => (time ? clock(x) : `${this.board.words.tStep} ${short(x)}`);
      return {
        width: this.plotBox.clientWidth || 400,
        height: this.element.classList.contains("run-chart-large") ? 420 : 210,
        padding: [10, 20, 0, 4],
        legend: { show: false },
        cursor: { sync: { key: this.board.key, setSeries: false }, drag: { x: true, y: false }, points: { size: 7 } },
        scales: { x: { time: false }, y: this.board.log ? { distr: 3 } : {} },
        axes: [axisStyle({ values: (_u, splits) => splits.map((x) => (time ? clock(x) : short(x))), size: 30, space: 70 }), axisStyle({ size: 56, values: yValues })],
        series,
        plugins: [tooltip(say)],
        hooks: { setSelect: [(u) => { if (u.select.width > 2) this.zoom(); }], ready: [(u) => u.over.addEventListener("dblclick", () => this.showAll())] },
      };
    }

    // A part of a long curve is drawn again with more of its points.
    zoom() {
      this.zoomed = true;
      this.reset.hidden = false;
      if (this.points === POINTS && this.sources.some((source) => source.data?.downsampled)) {
        this.points = ZOOM_POINTS;
        setTimeout(() => this.load(true), 0);
      }
    }

    showAll() {
      this.zoomed = false;
      this.reset.hidden = true;
      this.points = POINTS;
      this.draw();
    }

    describe(tables) {
      const w = this.board.words;
      const one = tables.length === 1 ? tables[0].source.data : null;
      this.readout.textContent = one ? short(one.last) : "";
      const total = tables.reduce((sum, { source }) => sum + source.data.count, 0);
      const sampled = tables.some(({ source }) => source.data.downsampled);
      this.foot.textContent = `${total.toLocaleString()} ${w.tPoints}${sampled ? `, ${w.tSampled}` : ""}`;
      const facts = tables.slice(0, 6).map(({ source: { label, data } }) => `${tables.length > 1 ? `${label}: ` : ""}${w.tLast} ${short(data.last)}, ${w.tMin} ${short(data.min)}, ${w.tMax} ${short(data.max)}`);
      this.plotBox.setAttribute("aria-label", `${this.title}. ${facts.join("; ")}`);
      if (this.table.open) this.fillTable();
    }

    // The same for those who do not see the picture: the last values as a table.
    fillTable() {
      this.table.querySelector("table")?.remove();
      if (!this.table.open) return;
      const w = this.board.words;
      const time = this.board.axis === "time";
      const body = make("tbody");
      this.tables().forEach(({ source, xs, ys }) => {
        const from = Math.max(0, xs.length - (this.sources.length > 1 ? 1 : 12));
        for (let i = xs.length - 1; i >= from; i -= 1) {
          body.append(make("tr", {}, make("th", { scope: "row" }, this.sources.length > 1 ? source.label : time ? clock(xs[i]) : short(xs[i])), make("td", { class: "at-num" }, short(ys[i]))));
        }
      });
      const first = this.sources.length > 1 ? "" : time ? w.tTime : w.tStep;
      this.table.append(make("table", { class: "table" }, make("thead", {}, make("tr", {}, make("th", {}, first), make("th", { class: "at-num" }, w.tValue))), body));
    }
  }

  // ---------- a page of charts with its tools ----------

  class Board {
    constructor(element) {
      this.element = element;
      this.words = element.dataset;
      this.grid = element.querySelector("[data-grid]");
      this.key = `board-${Math.random()}`;
      this.charts = new Map();
      this.axis = "step";
      this.smooth = 0;
      this.log = false;
      this.restore();
      this.tools();
      document.addEventListener("atelier:theme", () => this.each((chart) => chart.plot && chart.draw()));
      if (element.dataset.sources) this.fromSources(JSON.parse(document.getElementById(element.dataset.sources).textContent));
      else this.follow();
    }

    each(what) { this.charts.forEach(what); }

    restore() {
      try {
        const kept = JSON.parse(localStorage.getItem("charts") || "{}");
        this.axis = kept.axis === "time" ? "time" : "step";
        this.smooth = Math.min(0.99, Math.max(0, Number(kept.smooth) || 0));
        this.log = kept.log === true;
      } catch { /* a browser that keeps nothing starts afresh */ }
    }

    keep() {
      try { localStorage.setItem("charts", JSON.stringify({ axis: this.axis, smooth: this.smooth, log: this.log })); } catch { /* as above */ }
    }

    tools() {
      const box = this.element.querySelector("[data-tools]");
      const find = (selector) => box.querySelector(selector);
      find(`[name=axis][value=${this.axis}]`).checked = true;
      find("[data-smooth]").value = this.smooth;
      find("[data-smooth-out]").textContent = this.smooth;
      find("[data-log]").checked = this.log;
      this.filter = find("[data-filter]");
      this.filter.value = this.words.show || "";
      this.filter.addEventListener("input", () => this.choose());
      box.addEventListener("input", (event) => {
        if (event.target.name === "axis") { this.axis = event.target.value; this.each((chart) => { chart.zoomed = false; chart.reset.hidden = true; chart.load(true); }); }
        if (event.target.matches("[data-smooth]")) { this.smooth = Number(event.target.value); find("[data-smooth-out]").textContent = event.target.value; this.each((chart) => chart.plot && chart.draw()); }
        if (event.target.matches("[data-log]")) { this.log = event.target.checked; this.each((chart) => chart.plot && chart.draw()); }
        this.keep();
      });
      this.box = box;
    }

    choose() {
      const words = this.filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      this.each((chart) => { chart.element.hidden = words.length > 0 && !words.some((word) => chart.name.toLowerCase().includes(word)); });
    }

    add(name, sources) {
      const chart = new Chart(this, name, sources);
      this.charts.set(name, chart);
      this.grid.append(chart.element);
      this.box.hidden = false;
      this.choose();
      return chart;
    }

    fromSources({ metrics, sources }) {
      metrics.forEach((name) => {
        this.add(name, sources.map((source, index) => ({ ...source, index })).filter((source) => source.metrics.includes(name)));
      });
      if (!sources.some((source) => source.live)) return;
      const again = async () => {
        if (!document.hidden) {
          const catalogs = await Promise.all(sources.map((source) => (source.live ? getJson(source.url).catch(() => null) : null)));
          catalogs.forEach((catalog, index) => catalog && this.counts(catalog, sources[index].url));
          sources.forEach((source, index) => { if (catalogs[index]?.live === false) source.live = false; });
        }
        if (sources.some((source) => source.live)) setTimeout(again, POLL_MS);
      };
      setTimeout(again, POLL_MS);
    }

    counts(catalog, url) {
      const counts = new Map(catalog.series.map((row) => [row.name, row.count]));
      this.each((chart) => {
        chart.sources.filter((source) => source.url === url).forEach((source) => { source.known = counts.get(chart.name); });
        chart.load();
      });
    }

    // One run: its catalog says which curves there are and how long each is; only what grew is fetched.
    async follow() {
      const url = this.words.catalog;
      try {
        const catalog = await getJson(url);
        catalog.series.forEach((row) => {
          if (!["scalar", "list"].includes(row.kind)) return;
          card(row);
          if (row.count > 1 && !this.charts.has(row.name)) this.add(row.name, [{ label: seen(row.name), url, index: this.charts.size, known: row.count }]);
        });
        this.counts(catalog, url);
        if (!catalog.live) return;
      } catch {
        window.Atelier.away?.();
      }
      const wait = () => (document.hidden ? document.addEventListener("visibilitychange", () => this.follow(), { once: true }) : this.follow());
      setTimeout(wait, POLL_MS);
    }
  }

  const card = (row) => {
    const box = document.getElementById("metric-cards");
    if (!box) return;
    document.getElementById("metrics-empty")?.remove();
    let element = [...box.children].find((child) => child.dataset.card === row.name);
    if (!element) {
      element = make("div", { class: "run-card", "data-card": row.name }, make("span", { class: "run-card-name", title: seen(row.description || row.name) }, seen(row.name)), make("span", { class: "run-card-value", "data-last": "" }), make("span", { class: "run-card-range", "data-range": "" }));
      const after = [...box.children].find((child) => child.dataset.card > row.name);
      box.insertBefore(element, after || null);
      box.hidden = false;
    }
    const write = (selector, text) => { const part = element.querySelector(selector); if (part.textContent !== text) part.textContent = text; };
    write("[data-last]", short(row.last));
    write("[data-range]", row.count > 1 ? `${short(row.minimum)} … ${short(row.maximum)}` : "\u00a0");
  };

  // ---------- sparklines ----------

  const drawn = new Map();
  const spark = async (element) => {
    const key = `${element.dataset.url}&n=${element.dataset.count}`;
    if (!drawn.has(key)) drawn.set(key, getJson(element.dataset.url).catch(() => null));
    const data = await drawn.get(key);
    const ys = (data?.y || []).filter((y) => y !== null);
    if (ys.length < 2) return;
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const place = (y, i) => `${((100 * i) / (ys.length - 1)).toFixed(2)},${(26 - 24 * ((y / 2 - low / 2) / (high / 2 - low / 2 || 1))).toFixed(2)}`;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 28");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", ys.map(place).join(" "));
    svg.append(line);
    element.replaceChildren(svg);
  };

  // ---------- curves that v1 logs as JSON ----------

  const plain = (element, { title, xLabel, yLabel, data, series, range, bars, single }) => {
    const box = make("div", { class: "run-plot", role: "img", "aria-label": title });
    element.append(make("div", { class: "run-curve-one" }, make("h3", single ? { class: "visually-hidden" } : {}, title), box));
    let plot;
    const draw = () => {
      plot?.destroy();
      plot = new uPlot({
        width: box.clientWidth || 360,
        height: 260,
        padding: [10, 24, 0, 4],
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: false, ...(range ? { range } : {}) }, y: range ? { range: [0, 1.02] } : bars ? { range: (_u, _low, high) => [0, high * 1.05] } : {} },
        axes: [axisStyle({ label: xLabel, labelSize: 18, size: 30, values: yValues }), axisStyle({ label: yLabel, labelSize: 18, size: 52, values: yValues })],
        series: [{}, ...series.map((one, index) => {
          const tint = one.dash ? window.Atelier.color("--at-ink-3") : colour(index);
          const base = { label: one.label, tint, stroke: tint, width: one.dash ? 1 : 1.75, dash: one.dash, points: { show: Boolean(one.points), size: 5, fill: tint } };
          return bars ? { ...base, fill: tint, width: 0, paths: uPlot.paths.bars({ size: [0.92, 100], align: 1 }) } : base;
        })],
        plugins: [tooltip((x) => `${xLabel} ${short(x)}`)],
      }, data, box);
    };
    draw();
    fit(box, () => plot);
    document.addEventListener("atelier:theme", draw);
  };

  const GRID = Array.from({ length: 201 }, (_none, i) => i / 200);
  const share = (part, whole) => (whole > 0 ? part / whole : 0);

  const accuracy = (element, data) => {
    const w = element.dataset;
    const labels = data.class_labels || [];
    const tables = (data.probability_tables || []).map((table) => table.map(([tp, fp, tn, fn]) => ({ fpr: share(fp, fp + tn), tpr: share(tp, tp + fn), precision: tp + fp > 0 ? tp / (tp + fp) : 1 })));
    const best = (points, keep, value) => points.reduce((found, point) => (keep(point) ? Math.max(found, value(point)) : found), 0);
    const roc = tables.map((points) => GRID.map((x) => (x === 1 ? 1 : best(points, (p) => p.fpr <= x, (p) => p.tpr))));
    const pr = tables.map((points) => GRID.map((x) => best(points, (p) => p.tpr >= x, (p) => p.precision)));
    const series = tables.map((_none, i) => ({ label: String(labels[i] ?? i) }));
    plain(element, { title: w.tRoc, xLabel: w.tFpr, yLabel: w.tTpr, range: [0, 1], data: [GRID, ...roc, GRID], series: [...series, { label: w.tIdeal && "–", dash: [4, 4] }] });
    plain(element, { title: w.tPr, xLabel: w.tRecall, yLabel: w.tPrecision, range: [0, 1], data: [GRID, ...pr], series });
  };

  const predictions = (element, data) => {
    const w = element.dataset;
    const edges = data.bin_edges || [];
    const averages = data.bin_averages || [];
    const xs = averages.map((_none, i) => (edges.length > i + 1 ? (edges[i] + edges[i + 1]) / 2 : i));
    const some = averages.map((y, i) => ((data.bin_counts?.[i] ?? 1) > 0 ? y : null));
    plain(element, { single: true, title: w.tPredicted, xLabel: w.tTrue, yLabel: w.tPredicted, data: [xs, some, xs], series: [{ label: w.tPredicted, points: true }, { label: w.tIdeal, dash: [4, 4] }] });
  };

  const residuals = (element, data) => {
    const w = element.dataset;
    const edges = data.bin_edges || [];
    const counts = data.bin_counts || [];
    plain(element, { single: true, title: w.tResidual, xLabel: w.tResidual, yLabel: w.tCount, bars: true, data: [[...edges.slice(0, counts.length), ...(edges.length > counts.length ? [edges[counts.length]] : [])], [...counts, ...(edges.length > counts.length ? [null] : [])]], series: [{ label: w.tCount }] });
  };

  const CURVES = { accuracy, predictions, residuals };

  // ---------- a metric over the runs of an experiment ----------

  const over = (element) => {
    const data = JSON.parse(document.getElementById(element.dataset.over).textContent);
    let plot;
    const draw = () => {
      plot?.destroy();
      const tint = colour(0);
      plot = new uPlot({
        width: element.clientWidth || 600,
        height: 200,
        padding: [12, 20, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { size: 9 } },
        scales: { x: { time: false, range: (_u, low, high) => (low === high ? [low - 1, high + 1] : [low - 0.4, high + 0.4]) } },
        axes: [axisStyle({ size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], values: (_u, splits) => splits.map((x) => `#${x}`) }), axisStyle({ size: 56, values: yValues })],
        series: [{}, { label: data.metric, tint, stroke: tint, width: 1.25, points: { show: true, size: 6, fill: tint } }],
        plugins: [tooltip((x) => `${element.dataset.tRun} #${x}`)],
        hooks: { ready: [(u) => u.over.addEventListener("click", () => { const to = data.urls[u.cursor.idx]; if (to && u.select.width < 3) location.assign(to); })] },
      }, [data.x, data.y], element);
    };
    draw();
    fit(element, () => plot);
    document.addEventListener("atelier:theme", draw);
  };

  const start = (root) => {
    const all = (selector) => [...(root.matches?.(selector) ? [root] : []), ...root.querySelectorAll(selector)];
    all("[data-spark]").forEach(spark);
    if (!window.uPlot) return;
    all("[data-curve]").forEach((element) => {
      if (element.childElementCount) return;
      const json = document.getElementById(element.dataset.json);
      if (json) CURVES[element.dataset.curve](element, JSON.parse(json.textContent));
    });
    all("[data-over]").forEach((element) => { if (!element.childElementCount) over(element); });
    all("[data-charts]").forEach((element) => { if (!element.board) element.board = new Board(element); });
  };

  document.addEventListener("DOMContentLoaded", () => {
    start(document.body);
    // Parts that htmx put in later. (htmx:load also fires for the whole page: start() does nothing twice.)
    document.addEventListener("htmx:load", (event) => event.detail.elt !== document.body && start(event.detail.elt));
  });
})();
