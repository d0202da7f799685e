// The log view: live output by websocket, older and searched parts by HTTP range. See templates/compute/parts/log_view.html.
// A window of at most MAX_ROWS lines is in the page; `top` and `received` are the byte offsets where it begins and ends.
(() => {
  "use strict";

  const MAX_ROWS = 5000; // in the page while somebody reads in it
  const FOLLOW_ROWS = 1500; // in the page while it follows the end: what is above is loaded again when one scrolls there
  const PART = 128 * 1024; // bytes of one HTTP range
  const PER_FRAME = 1024 * 1024; // bytes that are worked off per drawing
  const ACK_EVERY = 128 * 1024;
  const { Writer, Search, size, firstLines, lastLines } = window.AtelierLog;

  class LogView {
    constructor(root) {
      const find = (name) => root.querySelector(`[data-log-${name}]`);
      this.root = root;
      this.words = Object.fromEntries(Object.entries(root.dataset).filter(([k]) => /^t[A-Z]/.test(k)).map(([k, v]) => [k[1].toLowerCase() + k.slice(2), v]));
      Object.assign(this, { pane: find("pane"), state: find("state"), total: find("size"), followButton: find("follow"), pauseButton: find("pause"), hits: find("hits") });
      this.lines = document.createElement("div");
      this.lines.className = "log-lines";
      this.writer = new Writer(this.words);
      this.follow = true;
      this.paused = this.held = this.ended = this.refused = false;
      this.size = 0;
      this.tries = 0;
      this.alive = Date.now();
      this.restart(Number(root.dataset.from), Number(root.dataset.fromLine));
      this.bind(find);
      find("bar").hidden = false;
      this.connect();
    }

    bind(find) {
      const words = { passive: true };
      this.pane.addEventListener("scroll", () => this.scrolled(), words);
      this.pane.addEventListener("keydown", (event) => this.key(event));
      this.followButton.addEventListener("click", () => (this.follow && !this.held ? this.setFollow(false) : this.toEnd()));
      this.pauseButton.addEventListener("click", () => this.setPaused(!this.paused));
      const wrap = find("wrap");
      wrap.addEventListener("click", () => {
        wrap.setAttribute("aria-pressed", String(this.root.classList.toggle("log-wrap")));
        if (this.follow) this.bottom();
      });
      this.search = new Search(this, find);
      find("goto").addEventListener("submit", (event) => {
        event.preventDefault();
        const line = Number(event.target.elements.line.value);
        if (line >= 1) this.guard(async () => {
          const found = await this.json(`${this.root.dataset.line}${line}/`);
          await this.jump(found.offset, found.line);
        });
      });
      window.addEventListener("online", () => this.retry(0));
      document.addEventListener("visibilitychange", () => { if (!document.hidden) { this.retry(0); this.plan(); } });
      // A machine that slept leaves sockets that look alive: time that has jumped says so.
      this.clock = setInterval(() => {
        if (!this.root.isConnected) { this.leave(); return; }
        const slept = Date.now() - this.alive > 20000;
        this.alive = Date.now();
        if (slept && !document.hidden && this.socket) { this.drop(); this.retry(0); }
      }, 4000);
    }

    leave() { clearInterval(this.clock); clearTimeout(this.timer); this.gone = true; this.drop(); }

    // ----- the window -----

    restart(offset, line) {
      this.queue = [];
      this.rows = [];
      this.top = this.received = this.acked = offset;
      this.firstLine = line; // of the first row; null while it is not known
      this.writer.restart(offset);
      this.partial = null;
      this.fresh = true; // what is shown now goes with the next drawing
    }

    take(offset, bytes) {
      const end = this.received;
      if (offset + bytes.length <= end) return;
      if (offset > end) { this.restart(offset, null); this.number(); }
      else if (offset < end) bytes = bytes.subarray(end - offset);
      this.queue.push(bytes);
      this.received += bytes.length;
      this.size = Math.max(this.size, this.received);
      this.plan();
    }

    plan() {
      if (this.planned || this.gone || (!this.queue.length && !this.fresh)) return;
      this.planned = true;
      const draw = () => { this.planned = false; this.draw(); };
      if (document.hidden) setTimeout(draw, 300); else requestAnimationFrame(draw);
    }

    draw() {
      const bytes = this.dequeue();
      const { rows, skipped, partial } = this.writer.write(bytes, this.follow ? FOLLOW_ROWS : Infinity);
      const waits = this.fresh && !rows.length && !partial && !this.ended;
      if (this.fresh && !waits) { this.lines.replaceChildren(); this.pane.replaceChildren(this.lines); this.fresh = false; }
      if (skipped) {
        this.lines.replaceChildren();
        if (this.firstLine !== null) this.firstLine += this.rows.length + skipped;
        this.rows = [];
        this.top = rows.length ? rows[0].at : this.writer.start;
      }
      const added = document.createDocumentFragment();
      for (const row of rows) {
        this.rows.push(row);
        this.mark(row.element, this.rows.length - 1);
        added.append(row.element);
      }
      if (partial) { this.mark(partial, this.rows.length); added.append(partial); }
      this.partial = partial;
      this.lines.append(added);
      this.trim();
      if (this.follow) this.bottom();
      this.total.textContent = size(this.size);
      if (this.ended && !this.rows.length && !partial) this.empty(this.words.silent);
      this.acknowledge();
      this.plan();
      if (this.onDrawn && !this.queue.length) { const done = this.onDrawn; this.onDrawn = null; done(); }
    }

    dequeue() {
      let length = 0, count = 0;
      while (count < this.queue.length && length < PER_FRAME) length += this.queue[count++].length;
      if (count === 1) return this.queue.shift();
      const all = new Uint8Array(length);
      let at = 0;
      for (const piece of this.queue.splice(0, count)) { all.set(piece, at); at += piece.length; }
      return all;
    }

    mark(element, index) {
      if (this.firstLine === null) return;
      const number = this.firstLine + index;
      element.dataset.n = number;
      const digits = Math.max(String(number).length, 3);
      if (digits !== this.digits) { this.digits = digits; this.lines.style.setProperty("--log-gutter", `${digits + 2}ch`); }
    }

    // Line numbers of a window whose place in the file is only known by its offset.
    number() {
      const top = this.top;
      this.guard(async () => {
        const { line } = await this.json(`${this.root.dataset.line}?offset=${top}`);
        const index = this.rows.findIndex((row) => row.at === top);
        if (index < 0 && this.rows.length) { if (this.firstLine === null) this.number(); return; }
        this.firstLine = line - Math.max(index, 0);
        this.rows.forEach((row, i) => this.mark(row.element, i));
        if (this.partial) this.mark(this.partial, this.rows.length);
      });
    }

    trim() {
      if (!this.follow) { if (this.rows.length > MAX_ROWS) this.hold(); return; } // the reader's place must not move
      const extra = this.rows.length - FOLLOW_ROWS;
      if (extra <= 0) return;
      for (const row of this.rows.splice(0, extra)) row.element.remove();
      if (this.firstLine !== null) this.firstLine += extra;
      this.top = this.rows.length ? this.rows[0].at : this.writer.start;
      this.lines.querySelectorAll(".log-note").forEach((note) => note.remove());
    }

    empty(text) {
      const note = document.createElement("p");
      note.className = "log-empty";
      note.textContent = text;
      this.pane.replaceChildren(note);
      this.fresh = true;
    }

    // ----- moving about -----

    bottom() { this.pane.scrollTop = this.pane.scrollHeight; }

    scrolled() {
      const { scrollTop, scrollHeight, clientHeight } = this.pane;
      const atEnd = scrollHeight - scrollTop - clientHeight < 32;
      const up = scrollTop < (this.lastTop ?? 0) - 2;
      this.lastTop = scrollTop;
      if (up && !atEnd && this.follow) this.setFollow(false);
      if (atEnd && !this.held && !this.follow && !up) this.setFollow(true);
      if (atEnd && this.held && !this.paused && !up) this.newer();
      if (scrollTop < 600 && !this.fresh) this.older();
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.pane) return;
      if (event.key === "Home") this.guard(() => this.jump(0, 1));
      else if (event.key === "End") this.toEnd();
      else if (event.key === "/") this.search.input.focus();
      else return;
      event.preventDefault();
    }

    setFollow(follow) {
      this.follow = follow;
      this.followButton.setAttribute("aria-pressed", String(follow));
      if (follow) this.bottom();
    }

    setPaused(paused) {
      this.paused = paused;
      this.pauseButton.setAttribute("aria-pressed", String(paused));
      if (paused) { this.hold(); this.say("paused", this.words.paused); }
      else { this.held = false; this.connect(); }
    }

    // Take no more live bytes; the window ends at `received` and goes on from there later.
    hold() {
      if (this.held) return;
      this.held = true;
      this.drop();
      if (!this.paused) this.say("held", this.ended ? this.words.ended : this.words.reading);
    }

    toEnd() {
      this.paused = false;
      this.pauseButton.setAttribute("aria-pressed", "false");
      this.guard(async () => {
        const total = this.ended && this.size ? this.size : await this.length();
        if (this.held && total - this.received > PART) {
          const { line, offset } = await this.json(`${this.root.dataset.line}?offset=${Math.max(total - PART, 0)}`);
          this.restart(offset, line);
        }
        this.held = this.refused = false;
        this.setFollow(true);
        if (!this.socket) this.connect();
      });
    }

    async jump(offset, line) {
      this.setFollow(false);
      this.hold();
      const from = Math.max(offset - PART / 2, 0);
      const { bytes } = await this.range(from, offset + PART);
      const target = offset - from;
      const [cut, before] = lastLines(bytes, target, from === 0);
      this.restart(from + cut, line - before);
      await new Promise((done) => { this.onDrawn = done; this.take(from + cut, bytes.subarray(cut, firstLines(bytes, target))); });
      const row = this.rows.find((candidate) => candidate.at === offset)?.element || this.partial;
      this.lines.querySelectorAll("[data-found]").forEach((old) => delete old.dataset.found);
      if (row) { row.dataset.found = ""; row.scrollIntoView({ block: "center" }); }
    }

    older() {
      if (this.loading || this.top <= 0 || this.queue.length) return;
      this.loading = true;
      const top = this.top;
      this.guard(async () => {
        for (const length of [PART, 8 * PART]) { // more of it where one line is longer than a part
          const from = Math.max(top - length, 0);
          const { bytes } = await this.range(from, top);
          if (this.top !== top) return;
          const [cut, count] = lastLines(bytes, bytes.length, from === 0);
          if (count || length > PART) { this.prepend(bytes.subarray(count ? cut : 0), from + (count ? cut : 0)); return; }
        }
      }).finally(() => { this.loading = false; });
    }

    prepend(bytes, offset) {
      const writer = new Writer(this.words);
      writer.restart(offset);
      const { rows, partial } = writer.write(bytes, Infinity);
      if (partial) rows.push({ element: partial, at: writer.start });
      const before = this.pane.scrollHeight;
      this.rows.unshift(...rows);
      if (this.firstLine !== null) this.firstLine -= rows.length;
      rows.forEach((row, i) => this.mark(row.element, i));
      this.lines.querySelectorAll(".log-note").forEach((note) => note.remove());
      this.lines.prepend(...rows.map((row) => row.element));
      this.pane.scrollTop += this.pane.scrollHeight - before;
      this.lastTop = this.pane.scrollTop;
      this.top = offset;
      if (this.rows.length > MAX_ROWS) this.cutEnd();
    }

    // Drop rows at the end: the window goes on after the last one that stays.
    cutEnd() {
      this.hold();
      const gone = this.rows.splice(MAX_ROWS);
      gone.forEach((row) => row.element.remove());
      this.partial?.remove();
      this.partial = null;
      this.queue = [];
      this.received = this.acked = gone[0].at;
      this.writer.restart(this.received);
    }

    newer() {
      if (this.loading) return;
      this.loading = true;
      this.guard(async () => {
        const from = this.received; // the socket may have gone on by the time that this arrives
        const part = await this.range(from, from + PART);
        if (this.received !== from) return;
        if (this.rows.length + 1000 > MAX_ROWS) this.cutStart(1500);
        this.take(from, part.bytes.subarray(0, firstLines(part.bytes, 0)));
        if (this.received >= part.total && !this.ended && !this.paused) { this.held = false; this.connect(); }
      }).finally(() => { this.loading = false; });
    }

    cutStart(count) {
      const before = this.pane.scrollHeight;
      for (const row of this.rows.splice(0, count)) row.element.remove();
      if (this.firstLine !== null) this.firstLine += count;
      this.top = this.rows[0]?.at ?? this.writer.start;
      this.pane.scrollTop -= before - this.pane.scrollHeight;
      this.lastTop = this.pane.scrollTop;
    }

    // ----- the network -----

    connect() {
      clearTimeout(this.timer);
      if (this.socket || this.held || this.gone || this.refused) return;
      this.say("wait", this.words.connecting);
      const scheme = location.protocol === "https:" ? "wss:" : "ws:";
      const socket = new WebSocket(`${scheme}//${location.host}${this.root.dataset.socket}`);
      socket.binaryType = "arraybuffer";
      this.socket = socket;
      socket.onopen = () => socket.send(JSON.stringify({ stream: this.root.dataset.stream, from: this.received }));
      socket.onmessage = ({ data }) => this.socket === socket && (typeof data === "string" ? this.told(JSON.parse(data)) : this.frame(data));
      socket.onclose = ({ code }) => {
        if (this.socket !== socket) return;
        this.socket = null;
        if (this.ended) return;
        if (code >= 4400 && code < 4500) { this.refused = true; return; }
        this.say("away", this.words.away);
        this.retry(Math.min(500 * 2 ** this.tries++, 10000) * (0.7 + 0.6 * Math.random()));
      };
    }

    drop() { const socket = this.socket; this.socket = null; if (socket) socket.close(); }

    retry(delay) {
      if (this.held || this.ended || this.socket || this.gone) return;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        this.connect();
        if (this.tries > 3) this.newer(); // where websockets do not get through, the same bytes by HTTP
      }, delay);
    }

    frame(buffer) {
      const offset = Number(new DataView(buffer).getBigUint64(0));
      this.take(offset, new Uint8Array(buffer, 8));
    }

    told(message) {
      if (message.type === "hello") {
        this.tries = 0;
        this.size = Math.max(this.size, message.size);
        this.say("live", message.sealed ? this.words.ended : this.words.live);
        if (!message.size && !message.sealed) this.empty(this.words.empty);
        if (message.size <= this.received) this.acknowledge(true);
      } else if (message.type === "skip") this.skipped(message);
      else if (message.type === "eof") {
        this.ended = true;
        this.size = message.size;
        this.say("ended", this.words.ended);
        this.drop();
        this.fresh && this.plan();
      } else if (message.type === "error") {
        this.refused = true;
        this.say("refused", `${this.words.refused} ${message.detail}`);
      }
    }

    skipped({ from, to }) {
      this.restart(to, null);
      const note = document.createElement("p");
      note.className = "log-note";
      note.textContent = this.words.skipped.replace("{size}", size(to - from));
      this.lines.replaceChildren(note);
      this.pane.replaceChildren(this.lines);
      this.fresh = false;
      this.number();
    }

    acknowledge(now = false) {
      const done = this.queue.reduce((sum, piece) => sum - piece.length, this.received);
      if (this.socket?.readyState !== 1 || (!now && done - this.acked < ACK_EVERY && this.acked !== this.top)) return;
      this.acked = done;
      this.socket.send(JSON.stringify({ ack: done }));
    }

    async range(start, end) {
      const answer = await fetch(this.root.dataset.history, { headers: { Range: `bytes=${start}-${end - 1}` }, cache: "no-store" });
      if (answer.status === 416) return { bytes: new Uint8Array(0), total: Number(answer.headers.get("Content-Range")?.split("/")[1] || 0) };
      if (!answer.ok) throw new Error(String(answer.status));
      const bytes = new Uint8Array(await answer.arrayBuffer());
      if (answer.status !== 206) return { bytes: bytes.subarray(start, end), total: bytes.length };
      return { bytes, total: Number(answer.headers.get("Content-Range").split("/")[1]) };
    }

    async length() { return (await this.range(0, 1)).total; }

    async json(url) {
      const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
      const kind = answer.headers.get("Content-Type") || "";
      const body = kind.includes("json") ? await answer.json() : null;
      if (!answer.ok || !body) throw Object.assign(new Error(String(answer.status)), { detail: body?.detail });
      return body;
    }

    async guard(action) {
      try { await action(); } catch (error) { this.say("away", error.detail || this.words.failed); }
    }

    say(kind, text) {
      if (this.state.textContent === text) return;
      this.state.dataset.kind = kind;
      this.state.textContent = text;
    }
  }

  const begin = (within) => within.querySelectorAll("[data-log-view]:not([data-started])").forEach((root) => {
    root.dataset.started = "";
    root.logView = new LogView(root);
  });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => begin(document)); else begin(document);
  document.addEventListener("htmx:load", (event) => begin(event.target));
})();
