// Two histograms that can be moved: the best plan between them, the best critic, and four opinions on their distance.
// The formulas are those of the chapter, and a test compares them with gankit.
const PLACES = 6;
const START = { P: [6, 6, 4, 2, 2, 0], Q: [0, 2, 2, 4, 4, 8] };

const normalized = (weights) => {
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
};

// The northwest corner: on the line it is optimal.
const bestPlan = (p, q) => {
  const plan = p.map(() => q.map(() => 0));
  const [left, wanted] = [[...p], [...q]];
  for (let i = 0, j = 0; i < PLACES && j < PLACES; ) {
    const mass = Math.min(left[i], wanted[j]);
    plan[i][j] += mass;
    left[i] -= mass;
    wanted[j] -= mass;
    if (left[i] <= wanted[j]) i += 1;
    else j += 1;
  }
  return plan;
};

// f' = -sign(F - G) between neighbors, shifted to mean 0.
const bestCritic = (p, q) => {
  const values = [0];
  let gap = 0;
  for (let k = 0; k + 1 < PLACES; k += 1) {
    gap += p[k] - q[k];
    values.push(values[k] - (Math.abs(gap) < 1e-12 ? 0 : Math.sign(gap)));
  }
  const mean = values.reduce((sum, f, k) => sum + ((p[k] + q[k]) / 2) * f, 0);
  return values.map((f) => f - mean);
};

const term = (a, b) => (a === 0 ? 0 : b === 0 ? Infinity : a * Math.log(a / b));
const kl = (p, q) => p.reduce((sum, a, k) => sum + term(a, q[k]), 0);
const distances = (p, q) => {
  const m = p.map((a, k) => (a + q[k]) / 2);
  const plan = bestPlan(p, q);
  return {
    "W₁": plan.flatMap((row, i) => row.map((mass, j) => mass * Math.abs(i - j))).reduce((a, b) => a + b, 0),
    TV: p.reduce((sum, a, k) => sum + Math.abs(a - q[k]), 0) / 2,
    JSD: (kl(p, m) + kl(q, m)) / 2,
    "KL(P ‖ Q)": kl(p, q),
  };
};

const element = (name, attributes = {}, ...children) => {
  const svg = ["svg", "rect", "polyline", "text", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

const sliders = (law, changed) => {
  const group = element("fieldset", {}, element("legend", {}, `${law}: weights at 0 to ${PLACES - 1}`));
  const inputs = START[law].map((value, place) => {
    const settings = { type: "range", min: 0, max: 10, step: 1, value, "aria-label": `weight of ${law} at ${place}` };
    const input = element("input", settings);
    input.addEventListener("input", changed);
    group.append(element("label", {}, element("span", {}, `${place}`), input));
    return input;
  });
  return [group, () => inputs.map((input) => Number(input.value))];
};

const picture = (p, q, f) => {
  const drawing = element("svg", { viewBox: "0 0 340 180", "aria-hidden": "true" });
  const x = (k) => 30 + 56 * k;
  p.forEach((mass, k) => {
    drawing.append(
      element("rect", { class: "p", x: x(k) - 16, width: 15, y: 160 - 140 * mass, height: 140 * mass }),
      element("rect", { class: "q", x: x(k) + 1, width: 15, y: 160 - 140 * q[k], height: 140 * q[k] }),
      element("text", { x: x(k), y: 176, "text-anchor": "middle" }, `${k}`),
    );
  });
  drawing.append(element("polyline", { points: f.map((value, k) => `${x(k)},${80 - 14 * value}`).join(" ") }));
  return drawing;
};

const table = (plan) => {
  const heads = ["from \\ to", ...plan.map((_, j) => `${j}`)].map((text) => element("th", { scope: "col" }, text));
  const rows = plan.map((row, i) => {
    const cells = row.map((mass) => {
      const cell = element("td", {}, mass > 1e-9 ? mass.toFixed(2) : "");
      cell.style.setProperty("--mass", mass.toFixed(3));
      cell.dataset.mass = mass;
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row" }, `${i}`), ...cells);
  });
  const caption = element("caption", {}, "The best plan");
  return element("table", {}, caption, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
};

const build = (lab) => {
  const shown = element("div", { class: "shown" });
  const words = element("p", { class: "words", "aria-live": "polite" });
  const update = () => {
    const weights = [readP(), readQ()];
    if (weights.some((w) => w.every((value) => value === 0))) {
      words.textContent = "A law needs a positive weight somewhere.";
      return;
    }
    const [p, q] = weights.map(normalized);
    const [plan, f, found] = [bestPlan(p, q), bestCritic(p, q), distances(p, q)];
    lab.dataset.result = JSON.stringify({ ...found, plan, f }, (_, v) => (v === Infinity ? "inf" : v));
    shown.replaceChildren(picture(p, q, f), table(plan));
    const numbers = Object.entries(found).map(([name, v]) => `${name} = ${v === Infinity ? "∞" : v.toFixed(4)}`);
    const critic = f.map((value, k) => `${value.toFixed(2)} at ${k}`).join(", ");
    words.textContent = `${numbers.join(", ")}. The best critic f: ${critic}.`;
  };
  const colors = "Blue bars: P. Orange bars: Q. Green line: the best critic f.";
  const [groupP, readP] = sliders("P", update);
  const [groupQ, readQ] = sliders("Q", update);
  lab.append(element("div", { class: "sliders" }, groupP, groupQ), words, shown, element("p", {}, colors));
  update();
};

document.querySelectorAll(".transport-lab").forEach(build);
