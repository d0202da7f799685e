// What every page does: theme, copy buttons, the question box, toasts, times that move on, and a word when the studio is away.
// Other scripts use window.Atelier: toast(text, level), ask({...}) -> Promise<boolean>, color(name), fill(text, values),
// dropped(dataTransfer, skip) -> Promise<[{ path, file }]> and the events
// "atelier:theme" (colours changed) and "atelier:online" (the studio answers again) on document.
(() => {
  "use strict";

  const root = document.documentElement;
  const words = () => document.body.dataset;
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

  // ---------- theme ----------

  const applyTheme = (choice) => {
    root.dataset.theme = choice;
    root.dataset.bsTheme = choice === "auto" ? (systemDark.matches ? "dark" : "light") : choice;
    document.querySelectorAll("[data-set-theme]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === choice));
    });
    document.dispatchEvent(new CustomEvent("atelier:theme", { detail: root.dataset.bsTheme }));
  };

  const chooseTheme = (choice) => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${choice}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    applyTheme(choice);
  };

  systemDark.addEventListener("change", () => root.dataset.theme === "auto" && applyTheme("auto"));

  // A custom property as a colour that a canvas understands: light-dark() is resolved by asking an element.
  const color = (name) => {
    const probe = document.createElement("span");
    probe.hidden = true;
    probe.style.color = name.startsWith("--") ? `var(${name})` : name;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };

  // ---------- toasts ----------

  const dismiss = (element) => {
    element.dataset.gone = "";
    setTimeout(() => element.remove(), 220);
  };

  // Errors stay until they are closed; the rest leave when nobody points at them.
  const arm = (element) => {
    if (element.dataset.level === "error") return;
    let timer = setTimeout(() => dismiss(element), 6000);
    element.addEventListener("pointerenter", () => clearTimeout(timer));
    element.addEventListener("pointerleave", () => { timer = setTimeout(() => dismiss(element), 2500); });
  };

  const toast = (text, level = "info") => {
    const list = document.querySelector(".at-toast-list");
    const template = document.getElementById(`at-toast-${level}`) || document.getElementById("at-toast");
    if (!list || !template) return;
    const same = [...list.querySelectorAll("[data-toast]:not([data-gone]) p")].some((p) => p.textContent === text);
    if (same) return;
    const element = template.content.firstElementChild.cloneNode(true);
    element.querySelector("p").textContent = text;
    list.append(element);
    arm(element);
    while (list.children.length > 4) list.firstElementChild.remove();
  };

  // ---------- questions ----------

  const ask = ({ text, title, action, danger } = {}) => new Promise((resolve) => {
    const dialog = document.getElementById("at-confirm");
    const heading = dialog.querySelector(".at-dialog-title");
    const ok = dialog.querySelector("[data-confirm-ok]");
    heading.textContent = title || heading.dataset.default;
    dialog.querySelector(".at-dialog-text").textContent = text || "";
    ok.textContent = action || ok.dataset.default;
    ok.classList.toggle("btn-danger", Boolean(danger));
    ok.classList.toggle("btn-primary", !danger);
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
    if (danger) dialog.querySelector('[value="cancel"]').focus();
    else ok.focus();
  });

  const question = (element) => ({
    text: element.dataset.confirm,
    title: element.dataset.confirmTitle,
    action: element.dataset.confirmAction,
    danger: "confirmDanger" in element.dataset,
  });

  // A form, or the button that sends it, may carry data-confirm="...".
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const asking = event.submitter?.dataset.confirm !== undefined ? event.submitter : form;
    if (asking.dataset?.confirm === undefined || form.hasAttribute("hx-confirm")) return;
    if (form.dataset.confirmed !== undefined) {
      delete form.dataset.confirmed;
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    const submitter = event.submitter;
    if (await ask(question(asking))) {
      form.dataset.confirmed = "";
      form.requestSubmit(submitter);
    }
  }, true);

  document.addEventListener("htmx:confirm", async (event) => {
    if (!event.detail.question) return;
    event.preventDefault();
    if (await ask({ ...question(event.detail.elt), text: event.detail.question })) event.detail.issueRequest(true);
  });

  // A select that saves itself; without JavaScript its form has a button.
  document.addEventListener("change", (event) => {
    if (event.target.dataset?.submitOnChange !== undefined) event.target.form.requestSubmit();
  });

  // ---------- copy ----------

  const copy = async (button) => {
    const target = button.dataset.copyTarget && document.querySelector(button.dataset.copyTarget);
    const text = target ? target.value ?? target.textContent : button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (!copyByHand(text)) return toast(words().tCopyFailed, "error");
    }
    button.dataset.copied = "";
    setTimeout(() => delete button.dataset.copied, 1600);
    const live = document.querySelector("[data-announce]");
    if (live) live.textContent = words().tCopied;
  };

  // Where the page is not served from localhost or over https the clipboard interface is missing.
  const copyByHand = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  // A link that opens a box leads to the page of the same question where there is no box.
  const openDialog = (event, dialog) => {
    if (!dialog || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    dialog.showModal();
  };

  document.addEventListener("click", (event) => {
    const element = event.target.closest("[data-copy], [data-copy-target], [data-set-theme], [data-toast-close], [data-back], [data-dialog]");
    if (!element) return;
    if (element.dataset.setTheme) chooseTheme(element.dataset.setTheme);
    else if ("toastClose" in element.dataset) dismiss(element.closest("[data-toast]"));
    else if ("back" in element.dataset) history.back();
    else if (element.dataset.dialog) openDialog(event, document.querySelector(element.dataset.dialog));
    else copy(element);
  });

  // ---------- times ----------

  const ago = (seconds) => {
    const w = words();
    if (seconds < 10) return w.tNow;
    const [n, unit] = seconds < 60 ? [seconds, w.tS] : seconds < 3600 ? [seconds / 60, w.tMin] : [seconds / 3600, w.tH];
    return w.tAgo.replace("%(time)s", `${Math.floor(n)} ${unit}`);
  };

  const lasting = (seconds) => {
    const w = words();
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} ${w.tS}`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} ${w.tMin} ${two(seconds % 60)} ${w.tS}`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} ${w.tH} ${two((seconds % 3600) / 60)} ${w.tMin}`;
    return `${Math.floor(seconds / 86400)} ${w.tD} ${Math.floor((seconds % 86400) / 3600)} ${w.tH}`;
  };

  const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const tick = () => {
    if (document.hidden) return;
    const now = Date.now();
    document.querySelectorAll("[data-since]").forEach((element) => {
      write(element, lasting((now - Date.parse(element.dataset.since)) / 1000));
    });
    // Past a day the server's words ("3 days ago") stay as they are.
    document.querySelectorAll("time[data-ago]").forEach((element) => {
      const seconds = (now - Date.parse(element.dateTime)) / 1000;
      if (seconds >= 0 && seconds < 86400) write(element, ago(seconds));
    });
  };

  // ---------- requests ----------

  let running = 0;
  const busy = (event, step) => {
    // What polls by itself shows no bar.
    if (event.detail.requestConfig?.triggeringEvent === undefined) return;
    running = Math.max(0, running + step);
    root.classList.toggle("at-busy", running > 0);
  };
  document.addEventListener("htmx:beforeRequest", (event) => {
    // A tab that nobody looks at does not poll; the next turn after it is shown again catches up.
    const polls = event.target.getAttribute?.("hx-trigger")?.includes("every ");
    if (document.hidden && polls) event.preventDefault();
    else busy(event, 1);
  });
  document.addEventListener("htmx:afterRequest", (event) => busy(event, -1));

  // A part that is drawn again takes the keyboard's place with it: the same link or field gets the focus back.
  let focused = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const element = document.activeElement;
    focused = null;
    if (!element || element === event.detail.target || !event.detail.target.contains(element)) return;
    const [kind, value] = element.id ? ["id", element.id] : ["href", "name"].map((n) => [n, element.getAttribute(n)]).find(([, v]) => v) || [];
    if (kind) focused = `${element.localName}[${kind}="${CSS.escape(value)}"]`;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (focused && document.activeElement === document.body) document.querySelector(focused)?.focus({ preventScroll: true });
    focused = null;
  });

  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail;
    if (xhr.status === 401) return location.reload();
    const page = new DOMParser().parseFromString(xhr.responseText || "", "text/html");
    toast(page.querySelector("[data-error-detail]")?.dataset.errorDetail || words().tFailed, "error");
  });

  // Services answer with a header HX-Trigger: {"toast": {"text": "...", "level": "success"}}.
  document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.level));

  // ---------- away and back ----------

  let waiting = null;
  const away = () => {
    if (waiting) return;
    const banner = document.querySelector("[data-offline]");
    if (banner) banner.hidden = false;
    waiting = setInterval(async () => {
      try {
        const answer = await fetch(words().health, { cache: "no-store" });
        if (!answer.ok) return;
      } catch {
        return;
      }
      clearInterval(waiting);
      waiting = null;
      if (banner) banner.hidden = true;
      document.dispatchEvent(new CustomEvent("atelier:online"));
    }, 2000);
  };
  document.addEventListener("htmx:sendError", away);
  document.addEventListener("htmx:timeout", away);
  window.addEventListener("offline", away);

  // ---------- for scripts that upload ----------

  const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_all, key) => values[key]);

  // The files of a drop, [{ path, file }], folders walked through; `skip` is asked by path, a folder's ends with a slash.
  const dropped = async (transfer, skip = () => false) => {
    // Entries must be taken before the first await: the list is emptied when the event ends.
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    const walk = async (entry, prefix) => {
      const path = prefix + entry.name;
      if (skip(entry.isDirectory ? `${path}/` : path)) return;
      if (entry.isFile) {
        found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
        return;
      }
      const reader = entry.createReader();
      for (;;) {
        const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!batch.length) return;
        for (const child of batch) await walk(child, `${path}/`);
      }
    };
    for (const entry of entries) await walk(entry, "");
    return found;
  };

  window.Atelier = { toast, ask, color, away, lasting, fill, dropped };

  document.addEventListener("DOMContentLoaded", () => {
    applyTheme(root.dataset.theme || "auto");
    document.querySelectorAll("[data-toast]").forEach(arm);
    tick();
    setInterval(tick, 1000);
  });
})();
