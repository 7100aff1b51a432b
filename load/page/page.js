"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const el = (tag, attrs, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attrs || {})) node.setAttribute(key, value);
    for (const child of children) if (child != null) node.append(child);
    return node;
  };
  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const number = (value) => {
    if (!known(value)) return "–";
    const abs = Math.abs(value);
    if (abs >= 1000) return Math.round(value).toLocaleString("en-US");
    if (abs >= 100) return value.toFixed(0);
    if (abs >= 10) return value.toFixed(1);
    return abs === 0 ? "0" : value.toFixed(2);
  };
  const count = (value) => (known(value) ? Math.round(value).toLocaleString("en-US") : "–");
  const percent = (value) => (known(value) ? (value === 100 ? "100" : value.toFixed(value > 99 ? 3 : 1)) : "–");
  const summary = (part, of) => (part && part[of] && part[of].count > 0 ? part[of] : {});
  const s = DATA.series || {}, total = DATA.total || {}, cpu = DATA.cpu || {}, memory = DATA.memory || {};

  // Head
  $("name").textContent = DATA.scenario.name;
  $("about").textContent = DATA.scenario.about || "";
  const verdicts = {
    passed: ["good", "Passed"], "slo missed": ["warn", "Objective missed"], failed: ["bad", "Promise broken"],
  };
  const [tone, words] = verdicts[DATA.verdict] || ["bad", "No verdict"];
  $("verdict").className = "verdict " + tone;
  $("verdict").textContent = words;
  const machine = DATA.machine || {};
  const started = DATA.started_at ? new Date(DATA.started_at) : null;
  $("facts").textContent = [
    started && started.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }),
    `${count(DATA.scenario.watches)} watches on ${count(DATA.scenario.connections)} connections`,
    `${count(DATA.scenario.dashboards)} dashboards`, `${count(DATA.scenario.seconds)} s`,
    `commit ${DATA.commit}`, DATA.profile === "debug" ? "debug build: says nothing about speed" : null,
    machine.cores && `${machine.cores} cores, ${machine.cpu}, ${machine.file_system}`,
  ].filter(Boolean).join("  ·  ");

  // Tiles
  const latency = summary(total, "latency"), screen = summary(total, "screen");
  const tile = (label, value, unit, note) => $("tiles").append(el("div", { class: "tile" },
    el("div", { class: "label" }, label),
    el("div", { class: "value" }, value, unit ? el("small", {}, unit) : null),
    el("div", { class: "note" }, note)));
  tile("Throughput", number(total.requests_per_s), "/s", `${percent(total.success_percent)} % succeeded`);
  tile("Latency p50", number(latency.p50_ms), "ms", `mean ${number(latency.mean_ms)} ms`);
  tile("Latency p99", number(latency.p99_ms), "ms", `p99.9 ${number(latency.p999_ms)}, max ${number(latency.max_ms)}`);
  tile("Event to screen p99", number(screen.p99_ms), known(screen.p99_ms) ? "ms" : "",
    known(screen.p50_ms) ? `p50 ${number(screen.p50_ms)}, ${count(screen.count)} pushes` : "no critical event was pushed");
  tile("Server CPU", number(cpu.server_percent), known(cpu.server_percent) ? "%" : "", `of one core; generator ${number(cpu.generator_percent)} %`);
  tile("Server memory", number(memory.server_rss_peak_mib), known(memory.server_rss_peak_mib) ? "MiB" : "",
    known(memory.server_rss_slope_mib_per_h) && DATA.scenario.seconds >= 600
      ? `${number(memory.server_rss_slope_mib_per_h)} MiB an hour` : `${number(memory.server_rss_end_mib)} at the end`);

  // Plots
  const made = [];
  const font = "12px system-ui, sans-serif";
  const ms = (v) => (v == null ? "" : number(v) + " ms");
  const seconds = (v) => (v >= 120 && v % 60 === 0 ? v / 60 + " min" : v + " s");
  // Seconds between others without a value would not be seen as a line.
  const sparse = (data) => data.slice(1).some((values) => values.filter((value) => value != null).length < values.length / 2);
  function plot(id, build) {
    const node = $(id);
    const draw = () => {
      const { data, series, axes, scales, bands } = build();
      node.textContent = "";
      const lines = data.slice(1).some((values) => values.some((value) => value != null));
      if (!lines || data[0].length < 2) {
        node.append(el("div", { class: "none" }, "Nothing of this kind happened in this run."));
        return;
      }
      const axis = (more) => ({ stroke: css("--soft"), font, grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, ...more });
      const chart = new uPlot({
        width: node.clientWidth, height: id === "latency" ? 250 : 200,
        padding: [8, 18, 0, 0], cursor: { points: { size: 6 }, drag: { x: true, y: false } },
        series: [{}, ...series.map((line) => ({ width: 1.75, points: { show: data[0].length <= 40 || sparse(data), size: 4, fill: css(line.color) }, spanGaps: false, ...line, stroke: css(line.color) }))],
        axes: axes.map(axis), scales, bands, hooks: { drawClear: [(u) => id === "percentiles" || shade(u)] },
      }, data, node);
      made.push({ node, chart });
    };
    draw();
    return draw;
  }
  // Phases of a run as stripes behind the lines.
  function shade(u) {
    const phases = DATA.phases || [];
    if (phases.length < 2) return;
    const { ctx, bbox } = u, ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    let shown = -Infinity;
    phases.forEach((phase, index) => {
      const from = Math.max(u.valToPos(phase.begin_s, "x", true), bbox.left);
      const to = Math.min(u.valToPos(phase.begin_s + phase.seconds, "x", true), bbox.left + bbox.width);
      if (to <= from) return;
      if (index % 2) { ctx.fillStyle = css("--grid"); ctx.globalAlpha = .55; ctx.fillRect(from, bbox.top, to - from, bbox.height); ctx.globalAlpha = 1; }
      const width = ctx.measureText(phase.name).width;
      if (from > shown && width + 8 * ratio < to - from) {
        ctx.fillStyle = css("--soft");
        ctx.fillText(phase.name, from + 5 * ratio, bbox.top + 2 * ratio);
        shown = from + width + 8 * ratio;
      }
    });
    ctx.restore();
  }
  const timeAxis = { size: 30, values: (u, at) => at.map(seconds), space: 60 };
  const end = DATA.scenario.seconds;
  const time = { time: false, range: (u, min, max) => [0, Math.max(end, max)] };
  // A logarithmic scale only where linear would hide the small ones.
  const spread = (...lists) => {
    const values = lists.flat().filter((value) => value > 0);
    if (!values.length) return { distr: 1 };
    const min = Math.min(...values), max = Math.max(...values);
    return max / min > 50 ? { distr: 3, range: [10 ** Math.floor(Math.log10(min)), 10 ** Math.ceil(Math.log10(max))] } : { range: (u, lo, hi) => [0, hi * 1.12 || 1] };
  };
  const msText = (v) => (v == null ? "" : (v >= 1 ? v.toLocaleString("en-US") : String(+v.toPrecision(2))) + " ms");
  // On a logarithmic scale the decades alone.
  const msAxis = {
    size: 66,
    values: (u, at) => at.map(msText),
    splits: (u, i, min, max, step, space) => {
      if (u.scales.y.distr === 3) {
        const decades = [];
        for (let at = Math.round(Math.log10(min)); at <= Math.round(Math.log10(max)); at++) decades.push(10 ** at);
        return decades;
      }
      const splits = [];
      for (let at = 0; at <= max + step / 1e3; at += step) splits.push(+at.toPrecision(6));
      return splits;
    },
  };
  const positive = (list) => (list || []).map((value) => (value > 0 ? value : null));
  const draws = [
    plot("latency", () => {
      const lists = ["p50_ms", "p90_ms", "p99_ms", "max_ms"].map((name) => positive(s[name]));
      return {
        data: [s.second || [], ...lists],
        series: [["p50", "--teal"], ["p90", "--blue"], ["p99", "--violet"], ["max", "--red"]].map(([label, color], i) =>
          ({ label, color, value: (u, v) => ms(v), width: i === 3 ? 1 : 1.75, dash: i === 3 ? [3, 3] : undefined })),
        axes: [timeAxis, msAxis], scales: { x: time, y: spread(...lists) },
      };
    }),
    plot("percentiles", () => {
      const p = DATA.percentiles || {}, rest = (q) => -Math.log10(Math.max(1 - q, 1e-9));
      const maps = ["latency_ms", "service_ms", "screen_ms"].map((name) => new Map((p[name] || []).map(([q, v]) => [q, v])));
      const quantiles = [...new Set(maps.flatMap((map) => [...map.keys()]))].filter((q) => q < 1).sort((a, b) => a - b);
      const lists = maps.map((map) => quantiles.map((q) => (map.get(q) > 0 ? map.get(q) : null)));
      const ticks = [0, 1, 2, 3, 4, 5, 6];
      return {
        data: [quantiles.map(rest), ...lists],
        series: [["answer", "--blue"], ["from sending", "--teal"], ["screen", "--amber"]].map(([label, color]) =>
          ({ label, color, value: (u, v) => ms(v) })),
        axes: [{ size: 30, splits: (u, i, min, max) => ticks.filter((tick) => tick <= max - 0.15), values: (u, at) => at.map((v) => (v === 0 ? "0" : "p" + (v === 1 ? "90" : v === 2 ? "99" : "99." + "9".repeat(v - 2)))) }, msAxis],
        scales: { x: { time: false, range: (u, min, max) => [0, Math.max(max, 1)] }, y: spread(...lists) },
      };
    }),
    plot("throughput", () => ({
      // What comes after the end is not a whole second.
      data: [s.second || [], (s.answered || []).map((n, i) => (s.second[i] + 1 <= Math.ceil(end) ? n : null)), (s.failed || []).map((n) => n || null)],
      series: [
        { label: "succeeded", color: "--blue", fill: css("--blue") + "1f", value: (u, v) => (v == null ? "" : number(v) + "/s") },
        { label: "failed", color: "--red", value: (u, v) => (v == null ? "" : number(v) + "/s"), points: { show: true, size: 4 } },
      ],
      axes: [timeAxis, { size: 58, values: (u, at) => at.map((v) => number(v).replace(/\.0+$/, "")) }],
      scales: { x: time, y: { range: (u, min, max) => [0, Math.max(max * 1.12, 1)] } },
    })),
    plot("screen", () => {
      const lists = ["screen_p50_ms", "screen_p99_ms", "screen_max_ms"].map((name) => positive(s[name]));
      return {
        data: [s.second || [], ...lists],
        series: [["p50", "--teal"], ["p99", "--violet"], ["max", "--red"]].map(([label, color], i) =>
          ({ label, color, value: (u, v) => ms(v), width: i === 2 ? 1 : 1.75, dash: i === 2 ? [3, 3] : undefined })),
        axes: [timeAxis, msAxis], scales: { x: time, y: spread(...lists) },
      };
    }),
    plot("memory", () => ({
      data: [s.sample_s || [], positive(s.server_rss_mib), s.server_cpu_percent || [], s.generator_cpu_percent || []],
      series: [
        { label: "memory", color: "--amber", fill: css("--amber") + "1f", scale: "mib", width: 2, value: (u, v) => (v == null ? "" : number(v) + " MiB") },
        { label: "server CPU", color: "--blue", scale: "cpu", value: (u, v) => (v == null ? "" : number(v) + " %") },
        { label: "generator CPU", color: "--teal", scale: "cpu", dash: [4, 3], value: (u, v) => (v == null ? "" : number(v) + " %") },
      ],
      axes: [timeAxis, { scale: "mib", size: 62, values: (u, at) => at.map((v) => v + " MiB") },
        { scale: "cpu", side: 1, size: 46, grid: { show: false }, values: (u, at) => at.map((v) => v + " %") }],
      scales: { x: time, mib: { range: (u, min, max) => [0, max * 1.12 || 1] }, cpu: { range: (u, min, max) => [0, Math.max(max * 1.12, 10)] } },
    })),
  ];
  const redraw = () => { made.splice(0).forEach(({ chart }) => chart.destroy()); draws.forEach((draw) => draw()); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 120);
  });

  // Tables
  function table(id, title, head, rows) {
    if (!rows.length) return;
    const cell = (tag) => (value, index) => el(tag, head[index] === "" ? { class: "mark" } : {}, value instanceof Node ? value : String(value));
    $(id).append(el("div", { class: "table" }, el("h2", {}, title), el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...head.map(cell("th")))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell("td")))))))));
  }
  const pill = (kind, text) => el("span", { class: "pill " + kind }, text);
  table("phases", "Phases", ["phase", "load", "requests/s", "success", "mean", "p50", "p95", "p99", "max ms", "screen p50", "p99 ms"],
    (DATA.phases || []).map((phase) => {
      const l = summary(phase, "latency"), shown = summary(phase, "screen");
      return [phase.warm_up ? phase.name + " (not counted)" : phase.name, phase.load, number(phase.requests_per_s),
        phase.success_percent == null ? "–" : percent(phase.success_percent) + " %", number(l.mean_ms), number(l.p50_ms), number(l.p95_ms), number(l.p99_ms), number(l.max_ms),
        number(shown.p50_ms), number(shown.p99_ms)];
    }));
  table("slo", "Objectives", ["figure", "wanted", "measured", ""], (DATA.slo || []).map((slo) =>
    [slo.figure.replaceAll("_", " "), (slo.at_most ? "≤ " : "≥ ") + number(slo.limit) + (slo.relative ? ` (${slo.relative})` : ""), number(slo.value), slo.met ? pill("good", "met") : pill("warn", "missed")]));
  table("checks", "Promises", ["what must hold", "compared", ""], (DATA.checks || []).map((check) => [
    check.ok ? check.name : el("div", {}, check.name, el("ul", { class: "ids" }, ...check.first.map((id) => el("li", {}, id)))),
    count(check.compared), check.ok ? pill("good", "kept") : pill("bad", count(check.broken) + " broken")]));
  table("dashboards", "Dashboards", ["behaviour", "dashboards", "connections", "pushed", "gaps", "p50", "p99 ms"],
    (DATA.dashboards || []).map((group) => {
      const shown = summary(group, "screen");
      return [group.behaviour, count(group.count), count(group.connections), count(group.pushed), count(group.gaps), number(shown.p50_ms), number(shown.p99_ms)];
    }));
  if (DATA.compared) {
    table("compared", `Compared with ${DATA.compared.commit}`, ["figure", "then", "now", "ratio"], DATA.compared.pairs.map((pair) =>
      [pair.name.replaceAll("_", " "), number(pair.old), number(pair.new),
        pair.ratio == null ? "–" : pair.better == null ? "× " + pair.ratio.toFixed(2) : pill(pair.better ? "good" : "bad", "× " + pair.ratio.toFixed(2))]));
  }
  const counts = DATA.counts || {};
  const failures = Object.entries(total.failures || {}).map(([name, times]) => `${number(times)} × ${name}`).join(", ");
  $("footer").textContent = [
    `${count(counts.stored)} uploads stored, ${count(counts.stored_unanswered)} of them without a 200.`,
    failures && `Not answered with success: ${failures}.`,
    DATA.unsent ? `${count(DATA.unsent)} were never sent.` : null,
    DATA.dropped_from_rings ? `${count(DATA.dropped_from_rings)} dropped from full rings.` : null,
    known(DATA.replayed_s) ? `The last ring was empty ${number(DATA.replayed_s)} s after the outage.` : null,
    `${count(counts.pushed)} alert frames, ${count(counts.resumed)} of them after a reconnect.`,
    `Requests left ${number((DATA.send_lag || {}).p99_ms)} ms after they were due (p99); latencies include that.`,
    "Drag across a plot to look closer, double-click to go back.",
  ].filter(Boolean).join(" ");
})();
