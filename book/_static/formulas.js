// A formula that is wider than its box scrolls; only then does the keyboard have to reach it.
const boxes = document.querySelectorAll("div.math");
const reach = (box) => {
  const scrolls = box.scrollWidth > box.clientWidth;
  for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Formula"]]) {
    if (scrolls) box.setAttribute(name, value);
    else box.removeAttribute(name);
  }
};
const watcher = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
boxes.forEach((box) => watcher.observe(box));
document.fonts.ready.then(() => boxes.forEach(reach));
