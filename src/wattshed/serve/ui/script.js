"use strict";
// Names come from clients and files: they reach the page as text, never as markup.
(() => {
  const POLL_MS = 2000, COLOURS = 6, STORE = "wattshed-key";
  const by = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // ------------------------------------------------------------ words and numbers
  const known = (x) => x !== null && x !== undefined;
  function digits(x, n = 3) {
    if (!known(x)) return "–";
    if (x === 0) return "0";
    const shown = Number(x.toPrecision(n));
    return Math.abs(shown) >= 1e-4 ? shown.toLocaleString("en", { maximumSignificantDigits: n }) : shown.toExponential(1);
  }
  const watts = (x) => !known(x) ? "–" : x >= 1e4 ? `${digits(x / 1e3)} kW` : `${digits(x)} W`;
  const seconds = (x) => !known(x) ? "–" : x < 1 ? `${digits(x * 1e3)} ms` : `${digits(x)} s`;
  const percent = (x, n = 3) => known(x) ? `${digits(100 * x, n)} %` : "–";
  const signed = (x) => `${x > 0 ? "+" : x < 0 ? "−" : ""}${digits(Math.abs(100 * x), 2)}`;
  function span(s) {
    if (s < 120) return `${Math.round(s)} s`;
    if (s < 7200) return `${Math.round(s / 60)} min`;
    return s < 172800 ? `${digits(s / 3600)} h` : `${digits(s / 86400)} d`;
  }
  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  const put = (id, text) => { if (by(id).textContent !== text) by(id).textContent = text; };
  function simulation(state) {  // as words after a figure
    const served = new Set(state.endpoints.filter((f) => f.requests).map((f) => f.name));
    const real = state.gateway.endpoints.some((e) => served.has(e.name) && !e.simulated);
    return !state.simulated ? "" : real ? "; partly simulated" : "; simulated";
  }
  const total = (f) => known(f.dynamic_w) ? f.dynamic_w + (f.idle_w || 0) : null;
  const METHODS = { attributed: "metered", estimated: "metered, split by time alone" };
  function methods(f, number) {  // how energies are known, with how many of each where they differ
    const found = Object.entries(f.methods).map(([name, n]) => [METHODS[name] || name, n]);
    return found.map(([word, n]) => found.length > 1 ? number(word, n) : word).join(", ");
  }
  const ofEach = (word, n) => `${word} of ${count(n, "request")}`;
  const how = (f) => f.boundaries.length ? `energy ${methods(f, ofEach)}, boundary ${f.boundaries.join(" or ")}` : "";

  function element(name, attributes = {}, text = null) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  }
  function cell(row, text, kind = "") {
    const made = document.createElement("td");
    made.textContent = text;
    if (kind) made.className = kind;
    row.append(made);
    return made;
  }

  // ------------------------------------------------------------ charts
  let W = 560;
  const H = 300, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 40;
  function frame(label) {
    W = Math.max(280, Math.min(640, by("power").clientWidth));  // letters keep their size on a telephone
    return element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  }
  function empty(svg, text) {
    svg.append(element("text", { x: W / 2, y: H / 2, "text-anchor": "middle", class: "empty" }, text));
  }
  function step(most) {  // round marks on an axis from 0
    const raw = most / 4, unit = 10 ** Math.floor(Math.log10(raw));
    return unit * [1, 2, 2.5, 5, 10].find((k) => k * unit >= raw);
  }
  function shape(kind, x, y, r) {
    const d = [
      `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
      `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
      `M${x},${y - 1.2 * r}l${1.2 * r},${2.2 * r}h${-2.4 * r}z`,
      `M${x},${y - 1.4 * r}l${1.4 * r},${1.4 * r}l${-1.4 * r},${1.4 * r}l${-1.4 * r},${-1.4 * r}z`,
      `M${x},${y + 1.2 * r}l${1.2 * r},${-2.2 * r}h${-2.4 * r}z`,
    ][kind % 5];
    return element("path", { d });
  }
  function mark(index, x, y, r) {
    const made = shape(index, x, y, r);
    made.setAttribute("class", `mark f${index % COLOURS}`);
    return made;
  }

  function drawPower(state) {
    const names = Object.keys(state.power), bins = names.length ? state.power[names[0]].length : 0;
    const sums = Array.from({ length: bins }, (_, i) => names.reduce((s, n) => s + state.power[n][i], 0));
    const most = Math.max(0, ...sums);
    const svg = frame(`Power of requests over the last ${span(bins * state.bin_s)}, ${how(state.total) || "no energy known"}; at most ${watts(most)}`);
    if (!(most > 0)) {
      empty(svg, "No energy yet");
    } else {
      const mark_w = step(most), top = Math.ceil(most / mark_w) * mark_w;
      const y = (w) => H - BOTTOM - (H - TOP - BOTTOM) * w / top;
      for (let w = 0; w <= top * 1.0001; w += mark_w) {
        svg.append(element("line", { x1: LEFT, x2: W - RIGHT, y1: y(w), y2: y(w), class: "grid" }));
        svg.append(element("text", { x: LEFT - 6, y: y(w) + 4, "text-anchor": "end" }, digits(w)));
      }
      svg.append(element("text", { x: 4, y: H - BOTTOM + 18 }, "W"));
      const width = Math.min(40, (W - LEFT - RIGHT) / bins);
      for (let i = 0; i < bins; i++) {
        let base = 0;
        const x = W - RIGHT - (bins - i) * width;
        names.forEach((name, index) => {
          const w = state.power[name][i];
          if (w > 0) {
            svg.append(element("rect", { x: x + 0.5, width: Math.max(1, width - 1), y: y(base + w), height: y(base) - y(base + w), class: `f${index % COLOURS}` }));
            base += w;
          }
        });
      }
      const shown = bins * state.bin_s;
      svg.append(element("text", { x: W - RIGHT, y: H - BOTTOM + 18, "text-anchor": "end" }, "now"));
      svg.append(element("text", { x: Math.max(LEFT + 14, W - RIGHT - bins * width), y: H - BOTTOM + 18, "text-anchor": "middle" }, `−${span(shown)}`));
    }
    by("power").replaceChildren(svg);
    put("power-note", `Energy of answers that ended, idle part included, in steps of ${span(state.bin_s)}${simulation(state)}.`);
  }

  function axis(values) {  // whole powers of two around what is there
    const low = Math.floor(Math.log2(Math.max(1, Math.min(...values)))), high = Math.ceil(Math.log2(Math.max(2, ...values)));
    return [low, Math.max(high, low + 2)];
  }
  function drawPlane(state) {
    const points = state.points, names = state.endpoints.map((e) => e.name);
    const counts = names.map((_, i) => points.filter((p) => p[2] === i).length);
    const told = names.map((n, i) => `${n}: ${counts[i]}`).filter((_, i) => counts[i]).join(", ");
    const svg = frame(`Input and output tokens of the latest ${count(points.length, "request")} by endpoint. ${told}`);
    if (!points.length) {
      empty(svg, "No requests yet");
    } else {
      const [x0, x1] = axis(points.map((p) => p[0])), [y0, y1] = axis(points.map((p) => p[1]));
      const x = (m) => LEFT + 8 + (W - LEFT - RIGHT - 16) * (Math.log2(m) - x0) / (x1 - x0);
      const y = (n) => H - BOTTOM - 8 - (H - TOP - BOTTOM - 16) * (Math.log2(n) - y0) / (y1 - y0);
      const every = (a, b) => Math.ceil((b - a) / (W < 420 ? 4 : 7));
      for (let k = x0; k <= x1; k += every(x0, x1)) {
        svg.append(element("line", { x1: x(2 ** k), x2: x(2 ** k), y1: TOP, y2: H - BOTTOM, class: "grid" }));
        svg.append(element("text", { x: x(2 ** k), y: H - BOTTOM + 16, "text-anchor": "middle" }, (2 ** k).toLocaleString("en")));
      }
      for (let k = y0; k <= y1; k += every(y0, y1)) {
        svg.append(element("line", { x1: LEFT, x2: W - RIGHT, y1: y(2 ** k), y2: y(2 ** k), class: "grid" }));
        svg.append(element("text", { x: LEFT - 6, y: y(2 ** k) + 4, "text-anchor": "end" }, (2 ** k).toLocaleString("en")));
      }
      svg.append(element("text", { x: (W + LEFT) / 2, y: H - 6, "text-anchor": "middle" }, "input tokens m"));
      const side = element("text", { transform: `translate(12 ${(H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "output tokens n");
      svg.append(side);
      for (const [m, n, index] of points) {
        const made = mark(index, x(m), y(n), 4.5);
        made.append(element("title", {}, `${names[index]}: ${m} input, ${n} output tokens`));
        svg.append(made);
      }
    }
    by("plane").replaceChildren(svg);
    put("plane-note", points.length ? `The latest ${count(points.length, "served request")}${simulation(state)}. ${told}.` : "");
  }
  function drawLegend(state) {
    const names = Object.keys(state.power), key = names.join("\n");
    if (by("legend").dataset.names === key) return;
    by("legend").dataset.names = key;
    by("legend").replaceChildren(...names.map((name, index) => {
      const item = document.createElement("li"), svg = element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
      svg.append(mark(index, 8, 8, 5));
      item.append(svg, document.createTextNode(name));
      return item;
    }));
  }

  // ------------------------------------------------------------ figures
  function showSaved(found) {
    const against = found.baseline === "shadow" ? "the shadow policy" : "sending each to any open endpoint alike, as round robin does";
    const basis = `Predicted at ${count(found.requests, "decision")} of ${found.policy}, against ${against}; unlike batches are not in it.`;
    if (!found.requests) {
      put("saved", "–");
      put("saved-note", `No decision of ${found.policy} with predictions yet.`);
    } else if (!known(found.low)) {
      put("saved", "too early");
      put("saved-note", `${known(found.share) ? `${percent(found.share, 2)} so far, but too few requests for an interval. ` : ""}${basis}`);
    } else {
      put("saved", found.verdict === "not significant" ? "not significant" : percent(found.share, 2));
      const words = found.verdict === "costs more" ? "Less than nothing: it costs more. " : "";
      put("saved-note", `${words}95 %: ${signed(found.low)} to ${signed(found.high)} %; ${digits(found.saved_j)} J. ${basis}`);
    }
  }
  function showFigures(state) {
    const all = state.total, mark = simulation(state);
    put("watts", watts(total(all)));
    put("watts-note", known(all.dynamic_w)
      ? `${watts(all.dynamic_w)} of requests and ${watts(all.idle_w)} of their idle time; energy of answers that ended in the last ${span(state.window_s)}; replicas without requests are not in it. This is ${how(all)}${mark}.`
      : "No energy is known yet.");
    put("per-token", known(all.joules_per_output_token) ? `${digits(all.joules_per_output_token)} J` : "–");
    put("per-token-note", `Idle part included, last ${span(state.span_s)}. By endpoint below${mark}.`);
    showSaved(state.saved);
    const a = all.attainment;
    put("kept", percent(a.share));
    put("kept-note", a.promised
      ? `${a.kept} of ${a.promised} that were promised a latency; 95 %: ${digits(100 * a.low)} to ${digits(100 * a.high)} %.`
      : "Nothing was promised, or none was seen: streams show their first token.");
    for (const [id, word] of [["ttft", "streams"], ["e2e", "answers"]]) {
      const t = all[id];
      put(id, seconds(t.p50_s));
      put(`${id}-note`, t.requests ? `Median of ${t.requests} ${word}; 90 %: ${seconds(t.p90_s)}, 99 %: ${seconds(t.p99_s)}${mark}.` : `No ${word} yet.`);
    }
  }
  function stateOf(e) {
    const word = e.usable ? "up" : e.up ? "breaker open" : "down";
    return e.simulated ? `${word}, simulated` : word;
  }
  function showEndpoints(state) {  // those that left the fleet, and what was sent nowhere, come last
    const there = new Map(state.gateway.endpoints.map((e) => [e.name, e]));
    const rows = state.endpoints.map((f) => {
      const row = document.createElement("tr"), head = document.createElement("th"), e = there.get(f.name);
      head.scope = "row";
      head.textContent = f.name;
      row.append(head);
      cell(row, e ? stateOf(e) : "–", e && !e.usable ? "bad" : "");
      const served = f.outcomes.served || 0;
      for (const n of [e && e.running, e && e.waiting, served, f.requests - served]) cell(row, known(n) ? String(n) : "–", "number");
      cell(row, digits(total(f)), "number");
      cell(row, digits(f.joules_per_output_token), "number");
      cell(row, methods(f, (word, n) => `${n} ${word}`) || "–");
      cell(row, percent(f.attainment.share), "number");
      for (const x of [f.ttft.p50_s, f.ttft.p99_s, f.e2e.p50_s, f.e2e.p99_s]) cell(row, digits(x), "number");
      return row;
    });
    by("endpoints").tBodies[0].replaceChildren(...rows);
  }
  function show(state) {
    const g = state.gateway;
    put("status", `${g.ready ? "Ready" : "Not ready"} · policy ${g.policy}${g.switched_off ? " (switched off to the default)" : ""}${g.shadow ? ` · shadow ${g.shadow}` : ""} · up ${span(g.up_s)}${g.queue ? ` · ${g.queue} wait for room` : ""}`);
    by("simulated").hidden = !state.simulated;
    const faults = [];
    if (g.ledger !== "ok") faults.push(`The ledger cannot be written: ${g.ledger}. ${g.ledger_backlog} rows wait.`);
    const down = g.endpoints.filter((e) => !e.usable).map((e) => e.name);
    if (down.length) faults.push(`Not used now: ${down.join(", ")}.`);
    alarm(faults.join(" "));
    showFigures(state);
    drawPower(state);
    drawPlane(state);
    drawLegend(state);
    showEndpoints(state);
    put("foot", `wattshed ${g.version}. Figures of the last ${span(state.span_s)}, of requests that have ended.${state.simulated ? " Some or all engines are simulated: these are no measurements." : ""}`);
    document.body.dataset.shown = String(Number(document.body.dataset.shown || 0) + 1);
  }
  function alarm(text) {
    by("alarm").hidden = !text;
    put("alarm", text);
  }

  // ------------------------------------------------------------ asking
  class Unwelcome extends Error {}
  async function ask(address) {
    const key = sessionStorage.getItem(STORE);
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    const answer = await fetch(address, { headers, cache: "no-store", credentials: "omit" });
    const content = await answer.json();
    if (answer.status === 401 || answer.status === 403) throw new Unwelcome(content.error.message);
    if (!answer.ok) throw new Error(content.error.message);
    return content;
  }
  function welcome(reason) {
    by("ask-key").hidden = reason === null;
    by("main").hidden = reason !== null;
    if (reason !== null) {
      put("key-reason", `The figures of this gateway need a key from other machines: ${reason}.`);
      put("status", "A key is needed");
    }
  }
  let timer = 0, round = 0;
  async function poll() {
    clearTimeout(timer);
    const mine = ++round;  // an answer to an older question, with an older key, is no news
    let again = true;
    if (!document.hidden) {
      try {
        const state = await ask("/ui/state");
        if (mine !== round) return;
        welcome(null);
        show(state);
      } catch (error) {
        if (mine !== round) return;
        if (error instanceof Unwelcome) {
          welcome(error.message);
          again = false;
        } else {
          put("status", "No answer from the gateway; the figures are old");
          alarm(`The gateway does not answer: ${error.message}`);
        }
      }
    }
    if (again) timer = setTimeout(poll, POLL_MS);
  }
  async function search() {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(by("search"))) if (value.trim()) asked.set(name, value.trim());
    try {
      const rows = (await ask(`/ui/requests?${asked}`)).requests;
      by("rows").hidden = !rows.length;
      for (const name of ["reason", "arm"]) by("rows").classList.toggle(`no-${name}`, !rows.some((r) => r[name]));
      by("rows").tBodies[0].replaceChildren(...rows.map(found));
      put("found", rows.length ? `${count(rows.length, "request")}, the latest first.` : "No request fits.");
    } catch (error) {
      put("found", `Not found: ${error.message}`);
    }
  }
  function found(r) {
    const row = document.createElement("tr");
    cell(row, new Date(1000 * r.arrived_at).toISOString().replace("T", " ").slice(0, 19) + "Z");
    for (const text of [r.id, r.tenant, r.model, r.policy, r.endpoint, r.shadow_endpoint]) cell(row, text || "–");
    for (const n of [r.input_tokens, r.output_tokens]) cell(row, known(n) ? n.toLocaleString("en") : "–", "number");
    for (const x of [r.first_s, r.end_s, r.joules, r.idle_joules]) cell(row, digits(x), "number");
    cell(row, r.energy_method || "–");
    cell(row, known(r.kept) ? (r.kept ? "yes" : "no") : "–");
    cell(row, r.outcome, r.outcome === "served" ? "" : "bad");
    for (const name of ["reason", "arm"]) cell(row, r[name] || "–", name);
    return row;
  }

  by("ask-key").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(STORE, by("key").value);
    by("key").value = "";
    poll();
  });
  by("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  by("theme").addEventListener("change", () => {
    const wanted = by("theme").value;
    if (wanted) document.documentElement.dataset.theme = wanted;
    else delete document.documentElement.dataset.theme;
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  poll();
})();
