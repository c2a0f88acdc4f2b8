// Sets theme and language before the first paint, so that nothing flashes; everything else waits for app.js.
(function () {
  try {
    const theme = localStorage.getItem("catena.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    const saved = localStorage.getItem("catena.language");
    const wanted = saved || navigator.language || "en";
    document.documentElement.lang = wanted.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
  } catch {
    // Storage may be forbidden; the page then follows the system.
  }
})();
