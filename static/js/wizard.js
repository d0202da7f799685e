// The wizard of datasets: choosing another datastore shows it at once, files that were just uploaded are ticked.
(() => {
  "use strict";

  document.addEventListener("change", (event) => {
    const { target } = event;
    if (target.matches?.("[data-submit-on-change]")) target.form.requestSubmit(target.form.querySelector("[name=go][value=stay]"));
    if (target.matches?.("[data-upload-files]")) remember([...target.files].map((file) => file.name));
  }, true);

  // Names that were given to the upload; each is ticked once when the folder is drawn with it.
  const fresh = new Set();
  const remember = (names) => names.forEach((name) => fresh.add(name));
  document.addEventListener("drop", (event) => {
    if (event.target.closest?.("#folder")) remember([...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()?.name).filter(Boolean));
  }, true);

  const tick = () => {
    if (!fresh.size) return;
    let changed = null;
    document.querySelectorAll("#listing [data-name]").forEach((box) => {
      if (!fresh.delete(box.dataset.name) || box.checked) return;
      box.checked = true;
      changed = box;
    });
    changed?.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const watch = () => {
    const folder = document.getElementById("folder");
    if (!folder || folder.dataset.watched) return;
    folder.dataset.watched = "1";
    new MutationObserver(tick).observe(folder, { childList: true, subtree: true });
  };
  document.addEventListener("DOMContentLoaded", watch);
  document.addEventListener("htmx:afterSettle", watch);

  // What is wrong is where the eye goes next.
  const focus = () => document.querySelector("[data-wizard] [data-focus]")?.focus();
  document.addEventListener("DOMContentLoaded", focus);
  document.addEventListener("htmx:afterSettle", focus);
})();
