// Output as text in lines: colours, carriage returns and cut characters as a terminal has them. Used by log.js.
(() => {
  "use strict";

  const LONGEST = 20000; // characters of one line that are drawn
  const CONTROL = /[\x00-\x08\x0a-\x1f\x7f\u202a-\u202e\u2066-\u2069]/;
  const DIRECTION = /[\u202a-\u202e\u2066-\u2069]/g; // these make a line read otherwise than it is written
  const seen = (text) => text.replace(DIRECTION, (char) => `⟦U+${char.charCodeAt(0).toString(16).toUpperCase()}⟧`);
  const TOKENS = /\x1b\[([0-9;:?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\x08\x0a-\x1f\x7f]+/g;
  const UNFINISHED = /\x1b(?:\[[0-9;:?]*|\][^\x07\x1b]*)?$/;

  // ---------- colours and carriage returns, as a terminal has them ----------

  const PLAIN = Object.freeze({ css: "", f: "", b: "" });

  const luminance = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b;
  const rgb256 = (n) => {
    if (n >= 232) return Array(3).fill(8 + (n - 232) * 10);
    const level = (v) => (v ? 55 + v * 40 : 0);
    return [level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)];
  };

  // What SGR codes have set; `look()` gives one shared object per look, so that equal looks are ===.
  class Pen {
    constructor() { this.looks = new Map([["", PLAIN]]); this.reset(); }

    reset() { Object.assign(this, { fore: null, back: null, flags: new Set() }); this.current = PLAIN; }

    sgr(text) {
      const codes = text ? text.split(/[;:]/).map(Number) : [0];
      for (let i = 0; i < codes.length; i++) {
        const code = codes[i];
        if (code === 38 || code === 48) {
          let color = null;
          if (codes[i + 1] === 5) { const n = codes[i + 2] & 255; color = n < 16 ? n : rgb256(n); i += 2; }
          else if (codes[i + 1] === 2) { color = codes.slice(i + 2, i + 5).map((v) => (v || 0) & 255); i += 4; }
          this[code === 38 ? "fore" : "back"] = color;
        } else this.code(code);
      }
      this.current = this.look();
    }

    code(code) {
      const on = { 1: "bold", 2: "dim", 3: "italic", 4: "line-under", 7: "inverse", 9: "strike" }[code];
      const off = { 22: ["bold", "dim"], 23: ["italic"], 24: ["line-under"], 27: ["inverse"], 29: ["strike"] }[code];
      if (code === 0) { this.fore = this.back = null; this.flags.clear(); }
      else if (on) this.flags.add(on);
      else if (off) off.forEach((flag) => this.flags.delete(flag));
      else if (code >= 30 && code <= 37) this.fore = code - 30;
      else if (code >= 90 && code <= 97) this.fore = code - 82;
      else if (code === 39) this.fore = null;
      else if (code >= 40 && code <= 47) this.back = code - 40;
      else if (code >= 100 && code <= 107) this.back = code - 92;
      else if (code === 49) this.back = null;
    }

    look() {
      const names = [...this.flags].sort().map((flag) => `log-${flag}`);
      let f = "", b = "";
      const { fore, back } = this;
      if (back !== null) {
        if (typeof back === "number") names.push(`log-b${back}`);
        else { names.push("log-brgb"); b = `rgb(${back.join(",")})`; }
        const dark = typeof back === "number" ? back < 7 || back === 8 : luminance(back) < 140;
        if (!Array.isArray(fore)) names.push(dark ? "log-on-dark" : "log-on-light"); // a palette is made for the pane only
      } else if (typeof fore === "number") names.push(`log-f${fore}`);
      if (Array.isArray(fore)) { if (back === null) names.push("log-frgb"); f = `rgb(${fore.join(",")})`; }
      const key = names.join(" ") + f + b;
      if (!this.looks.has(key)) this.looks.set(key, Object.freeze({ css: names.join(" "), f, b, raw: back !== null }));
      return this.looks.get(key);
    }
  }

  // One line as it stands after everything that was written to it.
  class Line {
    constructor(pen) { this.pen = pen; this.clear(); }

    clear() { this.chars = []; this.looks = []; this.column = 0; this.over = 0; this.held = ""; }

    feed(text) {
      text = this.held + text;
      const unfinished = UNFINISHED.exec(text);
      this.held = unfinished && text.length - unfinished.index < 256 ? unfinished[0] : "";
      if (this.held) text = text.slice(0, -this.held.length);
      for (const [token, values, final] of text.matchAll(TOKENS)) {
        if (final === "m") this.pen.sgr(values);
        else if (final === "K") this.erase(Number(values) || 0);
        else if (final === "G") this.column = Math.max((Number(values) || 1) - 1, 0);
        else if (final === "D") this.column = Math.max(this.column - (Number(values) || 1), 0);
        else if (final === "C") this.column = Math.min(this.column + (Number(values) || 1), LONGEST);
        else if (token === "\r") this.column = 0;
        else if (token === "\b") this.column = Math.max(this.column - 1, 0);
        else if (token.charCodeAt(0) >= 32 || token.charCodeAt(0) === 9) this.put(token);
      }
    }

    put(text) {
      for (const char of text) {
        if (this.column >= LONGEST) { this.over += 1; continue; }
        while (this.chars.length < this.column) { this.chars.push(" "); this.looks.push(PLAIN); }
        this.chars[this.column] = char < "\u202a" ? char : seen(char);
        this.looks[this.column++] = this.pen.current;
      }
    }

    erase(mode) {
      if (mode === 0) { this.chars.length = this.looks.length = Math.min(this.column, this.chars.length); return; }
      const end = mode === 1 ? Math.min(this.column + 1, this.chars.length) : this.chars.length;
      for (let i = 0; i < end; i++) { this.chars[i] = " "; this.looks[i] = PLAIN; }
    }

    draw(into) {
      const parts = [];
      for (let i = 0; i < this.chars.length;) {
        const look = this.looks[i];
        let j = i + 1;
        while (j < this.chars.length && this.looks[j] === look) j++;
        const text = this.chars.slice(i, j).join("");
        if (look === PLAIN) parts.push(text);
        else {
          const span = document.createElement("span");
          span.className = look.css;
          span.textContent = text;
          if (look.f) { if (look.raw) span.style.color = look.f; else span.style.setProperty("--f", look.f); }
          if (look.b) span.style.setProperty("--b", look.b);
          parts.push(span);
        }
        i = j;
      }
      into.replaceChildren(...parts);
    }
  }

  // Bytes to rows. Keeps its state between calls, so that a line, a character or an escape may be cut anywhere.
  class Writer {
    constructor(words) { this.words = words; this.pen = new Pen(); this.line = new Line(this.pen); this.restart(0); }

    restart(offset) {
      this.pen.reset();
      this.line.clear();
      this.decoder = new TextDecoder("utf-8");
      this.offset = this.start = offset; // where the next byte belongs, and where the line begun last starts
      this.begun = false;
      this.row = null;
    }

    // Rows of complete lines, at most the last `most`; `skipped` lines before them were not drawn.
    write(bytes, most) {
      const ends = [];
      for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) ends.push(at);
      const skipped = Math.max(ends.length - most, 0);
      const rows = [];
      let from = 0;
      if (skipped) { from = ends[skipped - 1] + 1; this.restart(this.offset + from); }
      for (const end of ends.slice(skipped)) {
        const text = this.decoder.decode(bytes.subarray(from, end + 1), { stream: true }).slice(0, -1);
        const row = this.row || this.element();
        this.fill(row, text);
        rows.push({ element: row, at: this.start });
        this.row = null;
        this.begun = false;
        this.line.clear();
        this.offset += end + 1 - from;
        this.start = this.offset;
        from = end + 1;
      }
      if (from < bytes.length) {
        this.row = this.row || this.element();
        this.line.feed(this.decoder.decode(bytes.subarray(from), { stream: true }));
        this.begun = true;
        this.offset += bytes.length - from;
        this.finish(this.row);
      }
      return { rows, skipped, partial: this.row };
    }

    element() {
      const row = document.createElement("div");
      row.className = "log-line";
      row.append(document.createElement("span"));
      return row;
    }

    fill(row, text) {
      if (text.endsWith("\r")) text = text.slice(0, -1);
      if (!this.begun && this.pen.current === PLAIN && text.length <= LONGEST && !CONTROL.test(text)) row.firstChild.textContent = text;
      else { this.line.feed(text); this.finish(row); }
    }

    finish(row) {
      this.line.draw(row.firstChild);
      if (!this.line.over) return;
      const more = document.createElement("span");
      more.className = "log-more";
      more.textContent = this.words.long.replace("{size}", size(this.line.over));
      row.firstChild.append(more);
    }
  }

  const size = (bytes) => {
    for (const unit of ["B", "KB", "MB", "GB"]) {
      if (bytes < 1024) return unit === "B" ? `${bytes} B` : `${bytes.toFixed(1)} ${unit}`;
      bytes /= 1024;
    }
    return `${bytes.toFixed(1)} TB`;
  };

  const LINES = 2000; // lines that are put into the page at once from a part of the log

  // Where LINES lines from `at` on end (or the bytes do).
  const firstLines = (bytes, at) => {
    for (let count = 0; count < LINES; count++) {
      const end = bytes.indexOf(10, at);
      if (end < 0) return bytes.length;
      at = end + 1;
    }
    return at;
  };

  // [where the last LINES lines before `to` start, how many they are]; `whole`: the bytes begin with a line.
  const lastLines = (bytes, to, whole) => {
    let start = to, count = 0;
    while (count < LINES && start > 0) {
      const end = start >= 2 ? bytes.lastIndexOf(10, start - 2) : -1;
      if (end < 0 && !whole) break;
      start = end + 1;
      count++;
    }
    return [start, count];
  };

  window.AtelierLog = { Writer, seen, size, firstLines, lastLines };
})();
