"use strict";
// What is better with a script: pages that keep themselves up to date, and the slider. All works
// without it.
(() => {
  const EVERY = 5000;
  const live = document.getElementById("live");
  const news = document.getElementById("news");

  // --- up to date: only while somebody can see it, and wants it
  const wanted = () => live && live.checked && document.visibilityState === "visible";
  const refresh = () => {
    const busy = document.activeElement;
    const typing = busy && busy.closest("form");
    if (wanted() && !typing) document.body.dispatchEvent(new CustomEvent("refresh"));
  };
  if (live && window.htmx) {
    live.closest("label").hidden = false;
    live.checked = localStorage.getItem("live") !== "off";
    live.addEventListener("change", () => {
      localStorage.setItem("live", live.checked ? "on" : "off");
      refresh();
    });
    document.addEventListener("visibilitychange", refresh);
    setInterval(refresh, EVERY);
  }

  // A screen reader is told what has changed, not each look.
  const told = () => {
    const about = document.querySelector("[data-news]");
    return about ? about.dataset.news.replace(/\s+/g, " ").trim() : "";
  };
  let last = told();
  document.body.addEventListener("htmx:afterSettle", () => {
    if (told() && told() !== last) news.textContent = told();
    last = told() || last;
    slide(document);
  });

  // --- the slider: one picture over the other, and the cut between them
  function slide(within) {
    for (const place of within.querySelectorAll("[data-compare]:not(.sliding)")) {
      const label = place.querySelector(".slider");
      const range = label.querySelector("input");
      const cut = () => place.style.setProperty("--cut", `${range.value}%`);
      range.addEventListener("input", cut);
      const sides = place.querySelector(".sides");
      const drag = (event) => {
        if (event.type === "pointermove" && !event.buttons) return;
        const box = sides.getBoundingClientRect();
        range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
        cut();
        event.preventDefault();
      };
      sides.addEventListener("pointerdown", drag);
      sides.addEventListener("pointermove", drag);
      sides.addEventListener("dragstart", (event) => event.preventDefault());
      label.hidden = false;
      place.classList.add("sliding");
      cut();
    }
  }
  slide(document);
})();
