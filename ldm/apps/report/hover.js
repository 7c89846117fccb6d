"use strict";
/* A vertical line and the values at the nearest place (a step, or what it is across). */
for (const figure of document.querySelectorAll("figure.chart")) {
  const {across, frame: [left, right, , , width, first, last], curves} =
    JSON.parse(figure.dataset.chart);
  const svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor");
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  const steps = [...new Set(curves.flatMap(([, points]) => points.map(p => p[0])))];
  const nearest = (list, to) => list.reduce((a, b) => Math.abs(b - to) < Math.abs(a - to) ? b : a);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * width;
    const step = nearest(steps, first + (at - left) / (right - left) * (last - first));
    const x = left + (step - first) / ((last - first) || 1) * (right - left);
    cursor.style.transform = `translateX(${x}px)`;
    tip.replaceChildren(`${across} ${step.toLocaleString("en", {maximumSignificantDigits: 6})}`);
    curves.forEach(([label, points], i) => {
      const value = points.find(p => p[0] === step);
      if (!value) return;
      const line = tip.appendChild(document.createElement("div"));
      const key = line.appendChild(document.createElement("i"));
      key.style.background = figure.querySelectorAll(".legend i")[i].style.background;
      line.append(`${label} `, Object.assign(document.createElement("b"), {textContent: value[1]}));
    });
    tip.style.top = `${box.top - figure.getBoundingClientRect().top + 8}px`;
    const place = x / width * box.width;
    tip.style.left = x < width / 2 ? `${place + 12}px` : "auto";
    tip.style.right = x < width / 2 ? "auto" : `${box.width - place + 12}px`;
    figure.classList.add("hovered");
  });
  svg.addEventListener("pointerleave", () => figure.classList.remove("hovered"));
}
