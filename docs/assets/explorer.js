// The explorer: curves and numbers out of the values that stand in the page.
"use strict";

(() => {
  const here = document.getElementById("curves");
  const values = document.getElementById("explorer-values");
  if (!here || !values) return;
  const { decibels, views, steps, codebooks } = JSON.parse(values.textContent);

  const QUANTITIES = {
    accuracy: { title: "accuracy", unit: "", range: () => [0, 1] },
    conditional_entropy: { title: "entropy left", unit: " bits", range: (most) => [0, most] },
    mutual_information: { title: "information", unit: " bits", range: (most) => [0, most] },
    share: { title: "share of information", unit: "", range: () => [0, 1] },
    mmse: { title: "MMSE / power", unit: "", range: () => [0, 1] },
  };
  const COLOURS = ["var(--explorer-1)", "var(--explorer-2)", "var(--explorer-3)"];
  const DASHES = ["", "7 3", "2 3"];
  const SVG = "http://www.w3.org/2000/svg";
  const COUNT = 3;

  // ---- State, which is kept in the address, so that a view can be linked to -------------------

  const state = { books: [1, 15, 20], view: "box", quantity: "mutual_information", level: 10 };

  function read() {
    const words = new URLSearchParams(location.hash.slice(1));
    const books = (words.get("books") || "").split(",").map((one) => parseInt(one, 10));
    if (books.length === COUNT) {
      state.books = books.map((one) => (codebooks[one] ? one : -1));
    }
    if (views[words.get("view")]) state.view = words.get("view");
    if (QUANTITIES[words.get("draw")]) state.quantity = words.get("draw");
    const level = parseInt(words.get("snr"), 10);
    if (decibels.includes(level)) state.level = level;
  }

  function write() {
    const words = new URLSearchParams({
      books: state.books.join(","), view: state.view, draw: state.quantity, snr: state.level,
    });
    history.replaceState(null, "", "#" + words.toString().replaceAll("%2C", ","));
  }

  // ---- Values --------------------------------------------------------------------------------

  function curve(book, quantity) {
    const seen = book.views[state.view];
    if (quantity !== "share") return seen[quantity];
    return seen.mutual_information.map((one) => one / book.bits);
  }

  function errors(book, quantity) {
    const seen = book.views[state.view];
    if (quantity !== "share") return seen[quantity + "_error"];
    const found = seen.mutual_information_error;
    return found && found.map((one) => one / book.bits);
  }

  function told(value, error) {
    if (error === undefined) {
      return value !== 0 && Math.abs(value) < 1e-3
        ? value.toExponential(3)
        : fixed(value, value < 10 ? 4 : 3); // five digits are stored
    }
    const half = 1.96 * error;
    if (Math.abs(value) <= half || half === 0) return "≈ " + fixed(value, 3) + " (sampled)";
    const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(half))));
    return fixed(value, digits) + " ± " + fixed(half, digits);
  }

  const fixed = (value, digits) => value.toFixed(digits);
  const signed = (value, digits) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);

  // ---- Controls ------------------------------------------------------------------------------

  const make = (tag, attributes = {}, text = "") => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };

  function menus() {
    const groups = [...new Set(codebooks.map((one) => one.group))];
    const names = ["First codebook", "Second codebook", "Third codebook"];
    const found = state.books.map((chosen, place) => {
      const menu = make("select", { "aria-label": names[place] });
      if (place > 0) menu.append(make("option", { value: -1 }, "none"));
      for (const group of groups) {
        const part = make("optgroup", { label: group });
        codebooks.forEach((one, index) => {
          if (one.group === group) part.append(make("option", { value: index }, one.label));
        });
        menu.append(part);
      }
      menu.value = chosen;
      menu.addEventListener("change", () => {
        state.books[place] = parseInt(menu.value, 10);
        draw();
      });
      const row = make("div", { class: "book" });
      const key = document.createElementNS(SVG, "svg");
      key.setAttribute("aria-hidden", "true");
      key.setAttribute("viewBox", "0 0 28 8");
      line(key, [[0, 4], [28, 4]], place);
      row.append(key, menu);
      return row;
    });
    here.querySelector(".books").append(...found);
  }

  function choices(where, name, titles, chosen, change) {
    for (const [value, title] of Object.entries(titles)) {
      const label = make("label");
      const button = make("input", { type: "radio", name, value });
      button.checked = value === chosen;
      button.addEventListener("change", () => { change(value); draw(); });
      label.append(button, " " + title);
      here.querySelector(where).append(label);
    }
  }

  function slider() {
    const input = here.querySelector("input[type=range]");
    Object.assign(input, { min: decibels[0], max: decibels.at(-1), step: 1 });
    input.value = state.level;
    input.addEventListener("input", () => { state.level = parseInt(input.value, 10); draw(); });
    return input;
  }

  // ---- Picture -------------------------------------------------------------------------------

  function shape(parent, tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function line(parent, points, place) {
    return shape(parent, "polyline", {
      points: points.map((one) => one.map((x) => x.toFixed(1)).join(",")).join(" "),
      fill: "none", stroke: COLOURS[place], "stroke-width": 2.2,
      "stroke-dasharray": DASHES[place], "stroke-linejoin": "round",
    });
  }

  function ticks(low, high) {
    const raw = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
    const found = [];
    for (let x = Math.ceil(low / step) * step; x <= high + 1e-9; x += step) found.push(x);
    return found;
  }

  let chart = null;

  function picture(chosen) {
    const box = here.querySelector(".chart");
    const width = Math.max(280, Math.min(760, box.clientWidth || 600));
    const height = Math.round(Math.max(230, Math.min(400, width * 0.56)));
    const edge = { left: 44, right: 10, top: 12, bottom: 42 };
    const { title, unit, range } = QUANTITIES[state.quantity];
    const most = Math.max(...chosen.map((one) => one.book.bits), 1);
    const [low, high] = range(most);
    const x = (db) => edge.left
      + ((db - decibels[0]) / (decibels.at(-1) - decibels[0])) * (width - edge.left - edge.right);
    const y = (value) => height - edge.bottom
      - ((value - low) / (high - low)) * (height - edge.top - edge.bottom);
    const svg = document.createElementNS(SVG, "svg");
    const about = `${title} over the SNR; the numbers at ${state.level} dB are in the table below`;
    for (const [name, value] of Object.entries({
      viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": about,
    })) svg.setAttribute(name, value);
    const grid = { stroke: "var(--explorer-grid)", "stroke-width": 1 };
    for (const one of ticks(low, high)) {
      shape(svg, "line", { x1: edge.left, x2: width - edge.right, y1: y(one), y2: y(one), ...grid });
      const text = String(parseFloat(one.toFixed(6)));
      shape(svg, "text", { x: edge.left - 6, y: y(one) + 4, "text-anchor": "end" }, text);
    }
    for (let db = decibels[0]; db <= decibels.at(-1); db += 10) {
      shape(svg, "line", { x1: x(db), x2: x(db), y1: edge.top, y2: height - edge.bottom, ...grid });
      const text = (db < 0 ? "−" : "") + Math.abs(db);
      shape(svg, "text", { x: x(db), y: height - edge.bottom + 17, "text-anchor": "middle" }, text);
    }
    const middle = (edge.left + width - edge.right) / 2;
    shape(svg, "text", { x: middle, y: height - 6, "text-anchor": "middle" }, "SNR (dB)");
    shape(svg, "text", { x: edge.left + 6, y: edge.top + 12, class: "title" }, title + unit.replace(" ", ", "));
    shape(svg, "line", {
      x1: x(state.level), x2: x(state.level), y1: edge.top, y2: height - edge.bottom,
      stroke: "currentColor", "stroke-width": 1.2,
    });
    for (const { book, place } of chosen) {
      const points = curve(book, state.quantity);
      line(svg, points.map((value, index) => [x(decibels[index]), y(value)]), place);
      const at = points[decibels.indexOf(state.level)];
      shape(svg, "circle", { cx: x(state.level), cy: y(at), r: 4, fill: COLOURS[place] });
    }
    box.replaceChildren(svg);
    chart = { svg, width, edge };
  }

  function pointed(event) {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const { svg, width, edge } = chart;
    const rect = svg.getBoundingClientRect();
    const along = ((event.clientX - rect.left) * width) / rect.width;
    const share = (along - edge.left) / (width - edge.left - edge.right);
    const index = Math.round(share * (decibels.length - 1));
    state.level = decibels[Math.max(0, Math.min(decibels.length - 1, index))];
    here.querySelector("input[type=range]").value = state.level;
    draw();
  }

  // ---- Numbers -------------------------------------------------------------------------------

  function table(chosen) {
    const node = make("table", { class: "told" });
    node.append(make("caption", {}, `At ${signed(state.level, 0)} dB, ${views[state.view]}`));
    const head = make("tr");
    head.append(make("th", { scope: "col" }, ""));
    for (const { book, place } of chosen) {
      const cell = make("th", { scope: "col" }, book.label);
      cell.style.borderBottom = `3px solid ${COLOURS[place]}`;
      head.append(cell);
    }
    const top = make("thead");
    top.append(head);
    const body = make("tbody");
    const row = (title, tell) => {
      const one = make("tr");
      one.append(make("th", { scope: "row" }, title));
      for (const { book } of chosen) one.append(make("td", {}, tell(book)));
      body.append(one);
    };
    const index = decibels.indexOf(state.level);
    row("tokens", (book) => book.K.toLocaleString("en"));
    row("dimensions", (book) => book.n.toLocaleString("en"));
    row("bits", (book) => fixed(book.bits, 3));
    for (const [name, { title, unit }] of Object.entries(QUANTITIES)) {
      row(title + unit.replace(" ", ", "), (book) => {
        const found = errors(book, name);
        return told(curve(book, name)[index], found && found[index]);
      });
    }
    row("half-information SNR, dB", (book) => {
      const { half, half_error: error } = book.views[state.view];
      return signed(half, 2) + (error === undefined ? "" : " ± " + fixed(1.96 * error, 2));
    });
    steps.forEach((count, place) => {
      row(`path KL of ${count} steps, nats`, (book) => {
        const found = book.steps_error;
        return told(book.steps[place], found && found[place]);
      });
    });
    node.append(top, body);
    here.querySelector(".numbers").replaceChildren(node);
  }

  // ---- All of it -----------------------------------------------------------------------------

  function draw() {
    const chosen = state.books
      .map((index, place) => ({ book: codebooks[index], place }))
      .filter(({ book }) => book);
    here.querySelector("output").textContent = `${signed(state.level, 0)} dB`;
    picture(chosen);
    table(chosen);
    write();
  }

  read();
  menus();
  choices(".views", "view", views, state.view, (value) => { state.view = value; });
  const titles = Object.fromEntries(Object.entries(QUANTITIES).map(([k, v]) => [k, v.title]));
  choices(".quantities", "quantity", titles, state.quantity, (value) => { state.quantity = value; });
  slider();
  here.hidden = false;
  const box = here.querySelector(".chart");
  box.addEventListener("pointerdown", pointed);
  box.addEventListener("pointermove", pointed);
  here.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  let wide = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== wide) {
      wide = box.clientWidth;
      requestAnimationFrame(draw);
    }
  }).observe(box);
  draw();
})();
