// The search of the log view: hits a page at a time, each leads to its line. Used by log.js.
(() => {
  "use strict";

  class Search {
    constructor(view, find) {
      this.view = view;
      this.form = find("search");
      this.input = this.form.elements.q;
      Object.assign(this, { panel: find("hits"), list: find("hits-list"), count: find("hits-count"), more: find("more"), asked: "" });
      this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(1); });
      this.input.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && !this.panel.hidden) { this.close(); event.preventDefault(); }
        if (event.key === "Enter" && event.shiftKey) { this.submit(-1); event.preventDefault(); }
      });
      this.more.addEventListener("click", () => this.page());
      find("hits-close").addEventListener("click", () => this.close());
    }

    // The same question again goes to the next hit (or the one before).
    submit(step) {
      const asked = new URLSearchParams(new FormData(this.form)).toString();
      if (!this.input.value) { this.close(); return; }
      if (asked !== this.asked) { this.start(asked); return; }
      const buttons = [...this.list.querySelectorAll("button")];
      const at = buttons.findIndex((button) => button.hasAttribute("aria-current"));
      if (buttons.length) buttons[(at + step + buttons.length) % buttons.length].click();
    }

    start(asked) {
      Object.assign(this, { asked, after: 0, found: 0 });
      this.list.replaceChildren();
      this.panel.hidden = false;
      this.page();
    }

    close() { this.panel.hidden = true; this.asked = ""; this.view.pane.focus(); }

    async page() {
      const asked = this.asked;
      this.more.hidden = true;
      this.count.textContent = this.view.words.searching;
      try {
        let page, before = this.found;
        do {
          page = await this.view.json(`${this.view.root.dataset.search}?${asked}&after=${this.after}`);
          if (this.asked !== asked) return;
          page.hits.forEach((hit) => this.add(hit));
          this.after = page.next;
          this.tell(page);
        } while (page.next !== null && this.found === before);
        this.more.hidden = page.next === null;
      } catch (error) { this.count.textContent = error.detail || this.view.words.failed; this.asked = ""; }
    }

    tell(page) {
      const { hits, hitsMore, none } = this.view.words;
      const text = page.next === null ? (this.found ? hits : none) : hitsMore;
      this.count.textContent = text.replace("{n}", this.found).replace("{p}", Math.floor((100 * (page.next || 0)) / (page.size || 1)));
    }

    add({ line, offset, text }) {
      this.found += 1;
      const item = document.createElement("li");
      const button = document.createElement("button");
      const number = document.createElement("b");
      const content = document.createElement("span");
      button.type = "button";
      number.textContent = line;
      content.append(...this.marked(window.AtelierLog.seen(text)));
      button.append(number, content);
      button.addEventListener("click", () => {
        this.list.querySelectorAll("[aria-current]").forEach((old) => old.removeAttribute("aria-current"));
        button.setAttribute("aria-current", "true");
        button.scrollIntoView({ block: "nearest" });
        this.view.guard(() => this.view.jump(offset, line));
      });
      item.append(button);
      this.list.append(item);
    }

    marked(text) {
      const { q, regex } = this.form.elements;
      const at = regex.checked ? -1 : text.toLowerCase().indexOf(q.value.toLowerCase());
      if (at < 0) return [text];
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + q.value.length);
      return [text.slice(0, at), mark, text.slice(at + q.value.length)];
    }
  }

  Object.assign(window.AtelierLog, { Search });
})();
