// Before the first paint, so that a chosen theme does not flash in the other one.
(function () {
  try {
    var theme = JSON.parse(localStorage.getItem("headstart.settings") || "{}").theme;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (_) {}
})();
