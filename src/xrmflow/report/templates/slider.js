"use strict";
// One slider: a range input for the height, a button a volume. Without scripts the middle slice stays.
for (const box of document.querySelectorAll(".slider")) {
  const frames = JSON.parse(box.querySelector("script").textContent);
  const image = box.querySelector("img");
  const caption = box.querySelector("figcaption");
  const bar = box.querySelector(".bar");
  const range = box.querySelector("input");
  const buttons = [...box.querySelectorAll("button")];
  let volume = 0;
  const show = () => {
    const frame = frames[volume][range ? Number(range.value) : Number(box.dataset.start)];
    image.src = frame.src;
    image.alt = frame.alt;
    image.width = frame.width;
    image.height = frame.height;
    image.classList.toggle("sharp", frame.sharp);
    caption.textContent = frame.caption;
    if (bar) {
      bar.style.width = 100 * frame.bar + "%";
      bar.nextElementSibling.textContent = frame.label;
    }
  };
  if (range) range.addEventListener("input", show);
  buttons.forEach((button, place) => button.addEventListener("click", () => {
    volume = place;
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    show();
  }));
}
// Closed parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
