// The graph begins at the dataset of the page, also where it is wider than the screen.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".data-graph").forEach((box) => {
    const current = box.querySelector("[data-current]");
    if (!current) return;
    const at = current.getBoundingClientRect();
    const frame = box.getBoundingClientRect();
    box.scrollLeft += at.left + at.width / 2 - frame.left - frame.width / 2;
    box.scrollTop += at.top + at.height / 2 - frame.top - frame.height / 2;
  });
});
