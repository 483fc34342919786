// The front of `explore`: a flat map that is clicked, scores of all layers, a time course over words with its sound.
// Everything that is shown comes from the kernel through the model's traits; a click goes back as `clicked`.
const NS = "http://www.w3.org/2000/svg";
const SECONDS = 24; // of the course in view
const LANES = 5;

function tag(name, attributes = {}, ...children) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function replace(element, ...children) {
  element.replaceChildren(...children);
  return element;
}

function url(bytes, type, old) {
  if (old) URL.revokeObjectURL(old);
  return URL.createObjectURL(new Blob([bytes], { type }));
}

function line(points, attributes) {
  return tag("polyline", { points: points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), fill: "none", ...attributes });
}

// Ends of an axis that holds values, with about four round steps between.
function steps(low, high) {
  const rough = (high - low || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough);
  const first = Math.floor(low / step), last = Math.ceil(high / step), found = [];
  for (let k = first; k <= last; k++) found.push(Number((k * step).toPrecision(6)));
  return found;
}

function drawOutlines(svg, given) {
  const [x, y, width, height] = given.box;
  svg.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const parts = [];
  for (const region of given.regions) parts.push(tag("path", { class: "casing", d: region.d }));
  for (const region of given.regions) {
    parts.push(tag("path", { class: "region", d: region.d, stroke: region.colour, "data-name": region.name }, tag("title", {}, region.title)));
  }
  for (const name of given.names) {
    const ink = name.anchor ? ["#111", "#fff"] : ["#fff", "#111"];
    if (name.anchor) parts.push(tag("line", { x1: name.x, y1: name.y, x2: name.anchor[0], y2: name.anchor[1], stroke: "#111", "stroke-width": 0.5 }));
    parts.push(tag("text", { x: name.x, y: name.y, "font-size": given.text, fill: ink[0], stroke: ink[1], "stroke-width": given.text / 5 }, name.text));
  }
  replace(svg, ...parts, tag("path", { class: "chosen", d: "" }));
}

function drawScale(box, scale) {
  const bar = document.createElement("div");
  bar.style.background = `linear-gradient(to right, ${scale.colours.join(", ")})`;
  const span = (text) => Object.assign(document.createElement("span"), { textContent: text });
  replace(box, span(scale.label), span(scale.low), bar, span(scale.high), span(scale.note || ""));
}

function drawScores(box, scores) {
  const width = 330, height = 250, left = 44, bottom = 34, top = 44;
  const svg = tag("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": scores.title });
  const values = scores.lines.flatMap((one) => one.values.filter((v) => v !== null));
  svg.append(tag("text", { x: 4, y: 12, "font-size": 12, "font-weight": 600 }, scores.title));
  if (values.length) {
    const ticks = steps(Math.min(0, ...values), Math.max(...values));
    const n = Math.max(...scores.lines.map((one) => one.values.length));
    const x = (k) => left + ((width - left - 10) * (k + 0.3)) / Math.max(n - 0.4, 1);
    const y = (v) => height - bottom - ((height - bottom - top) * (v - ticks[0])) / (ticks.at(-1) - ticks[0]);
    for (const tick of ticks) {
      svg.append(tag("line", { x1: left, x2: width - 8, y1: y(tick), y2: y(tick), stroke: tick ? "#eee" : "#888" }));
      svg.append(tag("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end", "font-size": 11 }, String(tick)));
    }
    for (let k = 0; k < n; k += Math.ceil(n / 13)) svg.append(tag("text", { x: x(k), y: height - bottom + 15, "text-anchor": "middle", "font-size": 11 }, String(k)));
    svg.append(tag("rect", { x: x(scores.layer) - 7, y: top, width: 14, height: height - bottom - top, fill: "#ff00c8", opacity: 0.12 }));
    scores.lines.forEach((one) => {
      const points = one.values.map((v, k) => [x(k), v === null ? null : y(v)]).filter(([, v]) => v !== null);
      const drawn = line(points, { stroke: one.colour, "stroke-width": one.chosen ? 3 : 1.4 });
      drawn.append(tag("title", {}, one.name));
      svg.append(drawn);
      for (const [px, py] of points) svg.append(tag("circle", { cx: px, cy: py, r: one.chosen ? 3 : 2, fill: one.colour }));
    });
    svg.append(tag("text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle", "font-size": 11 }, "layer"));
  }
  const key = document.createElement("div");
  for (const one of scores.lines) {
    const item = document.createElement("span"), dot = document.createElement("span");
    item.style.cssText = `display: inline-block; margin-right: 9px; font-size: 12px; font-weight: ${one.chosen ? 700 : 400}`;
    dot.style.cssText = `display: inline-block; width: 14px; height: 3px; margin-right: 4px; vertical-align: middle; background: ${one.colour}`;
    item.append(dot, one.name);
    key.append(item);
  }
  replace(box, svg, key);
}

// The time course: all of it above, a part below with the words that are spoken, and where the sound is.
function makeCourse(box, audio) {
  const width = 1100, left = 44, right = 8, whole = 62, part = 150, words = 18 * LANES;
  const svg = tag("svg", { viewBox: `0 0 ${width} ${whole + part + words + 44}`, role: "img" });
  box.append(svg);
  let course = null, from = 0;

  const xWhole = (t) => left + ((width - left - right) * (t - course.time[0])) / (course.time.at(-1) - course.time[0]);
  const xPart = (t) => left + ((width - left - right) * (t - from)) / SECONDS;
  const wholeCursor = tag("line", { stroke: "#b3005e", "stroke-width": 1.5 }), partCursor = wholeCursor.cloneNode();
  const window_ = tag("rect", { fill: "#fff2a8" }), under = tag("g"), detail = tag("g"), spoken = tag("g", { class: "bt-words" });

  function scaled(y0, height) {
    const values = course.lines.flatMap((one) => one.values);
    const low = Math.min(...values), high = Math.max(...values);
    return (v) => y0 + height - (height * (v - low)) / (high - low || 1);
  }

  function drawPart() {
    const y = scaled(whole + 14, part - 8), drawn = [];
    window_.setAttribute("x", xWhole(Math.max(from, course.time[0])));
    window_.setAttribute("width", Math.max(xWhole(Math.min(from + SECONDS, course.time.at(-1))) - xWhole(Math.max(from, course.time[0])), 2));
    for (let second = Math.ceil(from / 5) * 5; second <= from + SECONDS; second += 5) {
      drawn.push(tag("line", { x1: xPart(second), x2: xPart(second), y1: whole + 8, y2: whole + 8 + part, stroke: "#eee" }));
      drawn.push(tag("text", { x: xPart(second), y: whole + part + 22, "text-anchor": "middle", "font-size": 11, fill: "#555" }, `${second} s`));
    }
    drawn.push(line([[left, y(0)], [width - right, y(0)]], { stroke: "#bbb" }));
    for (const one of course.lines) {
      const points = course.time.map((t, k) => [t, one.values[k]]).filter(([t]) => t > from - 3 && t < from + SECONDS + 3);
      drawn.push(line(points.map(([t, v]) => [xPart(t), y(v)]), { stroke: one.colour, "stroke-width": 2.2, "clip-path": "" }));
    }
    drawn.push(tag("rect", { x: 0, y: whole + 6, width: left - 1, height: part + 6, fill: "#fff" }));
    drawn.push(tag("text", { x: 12, y: whole + part / 2 + 60, "font-size": 11, transform: `rotate(-90 12 ${whole + part / 2 + 60})` }, "response (z)"));
    replace(detail, ...drawn);
    const ends = Array(LANES).fill(-1), texts = [];
    for (const [start, end, word] of course.words.filter(([start]) => start >= from && start < from + SECONDS)) {
      const x = xPart(start), lane = Math.max(ends.findIndex((one) => one < x), 0);
      ends[lane] = x + 7 * word.length + 4;
      const text = tag("text", { x: Math.min(x, width - 7 * word.length), y: whole + part + 42 + 18 * lane, "data-start": start, "data-end": end }, word);
      texts.push(text);
    }
    replace(spoken, ...texts);
    cursor();
  }

  function cursor() {
    if (!course) return;
    const t = audio.currentTime;
    for (const [mark, x, y1, y2] of [[wholeCursor, xWhole(t), 4, whole], [partCursor, xPart(t), whole + 8, whole + part + words + 30]]) {
      const shown = x >= left && x <= width - right;
      for (const [key, value] of Object.entries({ x1: x, x2: x, y1, y2, visibility: shown ? "visible" : "hidden" })) mark.setAttribute(key, value);
    }
    for (const text of spoken.children) text.classList.toggle("heard", t >= text.dataset.start && t < Number(text.dataset.end) + 0.08 && t > 0);
  }

  function move(t) {
    from = Math.max(Math.min(t - 2, course.time.at(-1) - SECONDS), 0);
    drawPart();
  }

  function follow() {
    if (!course) return;
    if (audio.currentTime < from || audio.currentTime > from + SECONDS - 1) move(audio.currentTime);
    cursor();
    if (!audio.paused) requestAnimationFrame(follow);
  }
  for (const event of ["play", "seeked"]) audio.addEventListener(event, follow);

  svg.addEventListener("click", (event) => {
    if (!course) return;
    const at = svg.getBoundingClientRect(), k = width / at.width;
    const x = Math.max((event.clientX - at.left) * k - left, 0) / (width - left - right), y = (event.clientY - at.top) * k;
    const t = y < whole ? course.time[0] + x * (course.time.at(-1) - course.time[0]) : from + x * SECONDS;
    audio.currentTime = Math.max(t, 0);
    move(y < whole ? t : Math.max(from + 2, 2));
    audio.play().catch(() => {});
  });

  return (given) => {
    const same = course && course.story === given.story;
    course = given.time.length ? given : null;
    svg.style.display = course ? "block" : "none";
    if (!course) return;
    if (!same) from = Math.max(given.start, 0);
    svg.setAttribute("aria-label", given.title);
    const y = scaled(6, whole - 10);
    replace(under, ...course.lines.map((one) => line(course.time.map((t, k) => [xWhole(t), y(one.values[k])]), { stroke: one.colour, "stroke-width": 1 })));
    for (const [key, value] of Object.entries({ y: 2, height: whole - 2 })) window_.setAttribute(key, value);
    replace(svg, window_, under, wholeCursor, detail, spoken, partCursor);
    drawPart();
  };
}

function render({ model, el }) {
  el.innerHTML = `<div class="bt-brain"><div class="bt-head"></div><div class="bt-row"><div><div class="bt-map"><img alt=""><svg></svg></div>
    <div class="bt-scale"></div></div><div class="bt-side"></div></div><div class="bt-note" role="status"></div>
    <div class="bt-sound"><audio controls></audio> <span class="bt-key"></span></div><div class="bt-course"></div></div>`;
  const find = (name) => el.querySelector(name), image = find("img"), svg = find(".bt-map svg"), audio = find("audio");
  find(".bt-map").parentElement.style.flex = "1 1 640px";
  const showCourse = makeCourse(find(".bt-course"), audio);
  let painted = null, heard = null;
  const shown = {
    title: () => { find(".bt-head").textContent = model.get("title"); image.alt = `flat map: ${model.get("title")}`; },
    image: () => { painted = url(model.get("image"), "image/jpeg", painted); image.src = painted; },
    outlines: () => { drawOutlines(svg, model.get("outlines")); shown.chosen(); },
    chosen: () => svg.querySelector(".chosen")?.setAttribute("d", model.get("chosen")),
    scale: () => drawScale(find(".bt-scale"), model.get("scale")),
    scores: () => drawScores(find(".bt-side"), model.get("scores")),
    note: () => { find(".bt-note").textContent = model.get("note"); },
    sound: () => { const bytes = model.get("sound"); find(".bt-sound").style.display = bytes.byteLength ? "" : "none"; if (bytes.byteLength) { heard = url(bytes, "audio/flac", heard); audio.src = heard; } },
    course: () => {
      const course = model.get("course"), key = find(".bt-key");
      replace(key);
      for (const one of course.lines) {
        const item = document.createElement("b");
        item.style.cssText = `color: ${one.colour}; margin-left: 12px`;
        item.textContent = one.name;
        key.append(item);
      }
      showCourse(course);
    },
  };
  for (const [name, show] of Object.entries(shown)) {
    show();
    model.on(`change:${name}`, show);
  }
  find(".bt-map").addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, Date.now()]);
    model.save_changes();
  });
  return () => [painted, heard].forEach((one) => one && URL.revokeObjectURL(one));
}

export default { render };
