"use strict";
(() => {
  const root = document.documentElement;
  const all = (where, what) => [...where.querySelectorAll(what)];
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const counted = (number) => number.toLocaleString("en");
  const KEY = "pyrite-theme";
  root.classList.add("js");
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a page from disk may have no storage */ }

  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);

  function themes(button) {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const other = () => ((root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
    const label = () => { button.textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
    button.addEventListener("click", () => {
      root.dataset.theme = other();
      try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* kept for this visit only */ }
      label();
    });
    system.addEventListener("change", label);
    label();
    button.hidden = false;
  }

  function openers(button) {
    const every = all(document, "main details:not(.toc)");
    if (!every.length) return;
    const label = () => { button.textContent = every.some((one) => !one.open) ? "Open all" : "Close all"; };
    button.addEventListener("click", () => {
      const open = every.some((one) => !one.open);
      for (const one of every) one.open = open;
      label();
    });
    for (const one of every) one.addEventListener("toggle", label);
    label();
    button.hidden = false;
  }

  function printing() {
    let opened = [];
    const open = () => {
      for (const one of all(document, "details:not([open])")) { one.open = true; opened.push(one); }
    };
    const close = () => {
      for (const one of opened) one.open = false;
      opened = [];
    };
    addEventListener("beforeprint", open);
    addEventListener("afterprint", close);
    const paper = matchMedia("print");
    paper.addEventListener("change", () => (paper.matches ? open() : close()));
    if (paper.matches) open();
  }

  function reveal() {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { return; }
    const target = name && document.getElementById(name);
    if (!target) return;
    const own = target.querySelector(":scope > details");
    if (own) own.open = true;
    for (let at = target; at; at = at.parentElement) if (at.localName === "details") at.open = true;
    target.scrollIntoView();
  }

  function follow() {
    const links = new Map(all(document, ".toc.wide a").map((link) => [link.hash.slice(1), link]));
    const inView = new Set();
    const watch = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) inView[isIntersecting ? "add" : "delete"](target.id);
      const now = [...links.keys()].filter((id) => inView.has(id)).pop();
      for (const [id, link] of links) {
        if (id === now) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-8% 0px -80% 0px" });
    for (const id of links.keys()) watch.observe(document.getElementById(id));
  }

  // Whatever scrolls sideways can be reached by keyboard; what fits is no stop on the way.
  function scrollers() {
    const fit = new ResizeObserver((changes) => {
      for (const { target } of changes) {
        const box = target.matches(".scroll") ? target : target.parentElement;
        if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; else box.removeAttribute("tabindex");
      }
    });
    for (const box of all(document, ".scroll")) { fit.observe(box); fit.observe(box.firstElementChild); }
  }

  // Headings that sort: up, down, and back to the order of the page. `sorted` gets the column and the direction, or -1.
  function headings(table, sorted) {
    const heads = all(table, "thead th");
    heads.forEach((head, at) => {
      const button = make("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        for (const one of heads) one.removeAttribute("aria-sort");
        const now = was === "descending" ? null : was === "ascending" ? "descending" : "ascending";
        if (now) head.setAttribute("aria-sort", now);
        sorted(now ? at : -1, now === "descending" ? -1 : 1);
      });
    });
    return () => { for (const one of heads) one.removeAttribute("aria-sort"); };
  }

  // What is missing stands last, whichever way one sorts.
  const compare = (a, b, way) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return way * (typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b));
  };

  function sortable(table) {
    const body = table.tBodies[0];
    const lines = [...body.rows];
    if (lines.length < 2) return;
    headings(table, (at, way) => {
      const numbers = lines.some((line) => line.cells[at]?.dataset.sort !== undefined);
      const key = (line) => {
        const cell = line.cells[at];
        if (!numbers) return cell.textContent.trim();
        return cell.dataset.sort === undefined ? "" : Number(cell.dataset.sort);
      };
      body.append(...(at < 0 ? lines : lines.toSorted((a, b) => compare(key(a), key(b), way))));
    });
  }

  const LONG = 300;
  const OPTIONS = 200;

  function cell(text, label) {
    const made = make("td", "", { dir: "auto", className: text.length > 60 ? "text" : text.length > 26 || text.includes("\n") ? "some" : "" });
    made.dataset.label = label;
    if (text.length <= LONG && text.split("\n").length <= 6) {
      made.textContent = text;
      return made;
    }
    const more = make("button", "Show more", { type: "button" });
    more.setAttribute("aria-expanded", "false");
    more.addEventListener("click", () => {
      const open = made.classList.toggle("open");
      more.setAttribute("aria-expanded", String(open));
      more.textContent = open ? "Show less" : "Show more";
    });
    made.append(make("div", text, { className: "clip" }), more);
    return made;
  }

  // Values of a column for its choice of values; a cell that lists several, comma-separated, counts for each of them.
  const values = (text) => text.split(/,\s*/).filter(Boolean);

  function choices(select, rows, at) {
    const counts = new Map();
    for (const row of rows) for (const one of new Set(values(row[at]))) counts.set(one, (counts.get(one) ?? 0) + 1);
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || order.compare(a, b));
    for (const name of names.slice(0, OPTIONS)) {
      const short = name.length > 80 ? `${name.slice(0, 80)}…` : name;
      select.append(make("option", `${short} (${counted(counts.get(name))})`, { value: name }));
    }
    const rest = names.length - OPTIONS;
    if (rest > 0) select.append(make("option", `… ${counted(rest)} more values: use the search`, { disabled: true }));
  }

  function rowsOf(block) {
    const { columns, rows, filters, total, page } = JSON.parse(block.querySelector("script").textContent);
    const find = (what) => block.querySelector(what);
    const [input, status, where, table] = ["input", ".status", ".where", "table"].map(find);
    const selects = all(block, "select");
    const buttons = Object.fromEntries(all(block, "[data-do]").map((one) => [one.dataset.do, one]));
    const number = columns.map((_, at) => rows.every((row) => row[at].trim() === "" || Number.isFinite(Number(row[at]))));
    const paper = make("p", "", { className: "print muted" });
    status.after(paper);
    let texts;
    let found = rows;
    let shown = 0;
    let sort = [-1, 1];

    function search() {
      const asked = input.value.trim().toLowerCase();
      texts ??= asked ? rows.map((row) => row.join("\n").toLowerCase()) : texts;
      const wanted = selects.map((one, at) => [filters[at], one.value]).filter(([, value]) => value !== "");
      found = rows.filter((row, at) =>
        (!asked || texts[at].includes(asked)) && wanted.every(([column, value]) => values(row[column]).includes(value)));
      const [column, way] = sort;
      const key = (row) => (number[column] && row[column].trim() !== "" ? Number(row[column]) : row[column].trim());
      if (column >= 0) found = found.toSorted((a, b) => compare(key(a), key(b), way));
      shown = 0;
      draw();
    }

    function draw() {
      const pages = Math.max(1, Math.ceil(found.length / page));
      const first = shown * page;
      const here = found.slice(first, first + page);
      table.tBodies[0].replaceChildren(...here.map((row) => {
        const line = make("tr", "");
        line.append(...row.map((text, at) => cell(text, columns[at])));
        return line;
      }));
      const range = here.length ? `Rows ${counted(first + 1)} to ${counted(first + here.length)}` : "No rows";
      const beyond = total > rows.length ? ` This page holds ${counted(rows.length)} of ${counted(total)}.` : "";
      const narrowed = found.length < rows.length || input.value.trim() || selects.some((one) => one.value);
      status.textContent = (narrowed
        ? `${counted(found.length)} of ${counted(rows.length)} rows match. ${range} shown.`
        : `${range} of ${counted(rows.length)}.`) + beyond;
      paper.textContent = `Printed: ${range.toLowerCase()} of ${counted(found.length)}${narrowed ? " that match the search" : ""}`
        + `.${beyond}`;
      where.textContent = `Page ${counted(shown + 1)} of ${counted(pages)}`;
      const off = { first: shown === 0, previous: shown === 0, next: shown + 1 >= pages, last: shown + 1 >= pages };
      for (const [name, is] of Object.entries(off)) buttons[name].setAttribute("aria-disabled", String(is));
    }

    const turn = (name, to) => buttons[name].addEventListener("click", () => {
      if (buttons[name].getAttribute("aria-disabled") === "true") return;
      shown = to();
      draw();
    });
    turn("first", () => 0);
    turn("previous", () => shown - 1);
    turn("next", () => shown + 1);
    turn("last", () => Math.ceil(found.length / page) - 1);
    const unsorted = headings(table, (at, way) => { sort = [at, way]; search(); });
    let wait;
    input.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(search, 150); });
    selects.forEach((one, at) => { choices(one, rows, filters[at]); one.addEventListener("change", search); });
    buttons.reset.addEventListener("click", () => {
      input.value = "";
      for (const one of selects) one.value = "";
      sort = [-1, 1];
      unsorted();
      search();
    });
    find(".controls").hidden = false;
    find(".pager").hidden = rows.length <= page;
    draw();
  }

  function copies(button) {
    if (!navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch { button.textContent = "Not copied"; }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const one of all(document, "[data-do=theme]")) themes(one);
    for (const one of all(document, "[data-do=open]")) openers(one);
    for (const one of all(document, "[data-do=copy]")) copies(one);
    for (const one of all(document, ".rows:has(script)")) rowsOf(one);
    for (const one of all(document, "table.sortable")) sortable(one);
    printing();
    follow();
    scrollers();
    reveal();
    addEventListener("hashchange", reveal);
  });
})();
