// Puts Swagger UI in the place of the plain list of the API.

(() => {
  const root = document.documentElement;

  function isDark() {
    const theme = root.dataset.theme;
    return theme ? theme !== "light" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  const paint = () => root.classList.toggle("dark-mode", isDark());
  addEventListener("themechange", paint);
  paint();
  SwaggerUIBundle({
    url: "/api/v1/openapi.json",
    dom_id: "#swagger",
    deepLinking: true,
    docExpansion: "none",
    tagsSorter: "alpha",
    validatorUrl: null, // no other host is asked
    onComplete: () => {
      document.getElementById("plain").hidden = true;
    },
  });
})();
