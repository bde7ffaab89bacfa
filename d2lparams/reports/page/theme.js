// Before anything is painted: that there is JavaScript, and which colours the reader chose the last time.
document.documentElement.classList.add("js");
try {
  const theme = localStorage.getItem("d2lparams-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A file from a mail may have no storage; the system's colours will do.
}
