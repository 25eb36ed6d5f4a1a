// Shows the description of the API in the browser's color scheme. Requests that are tried out carry the tab's key.
"use strict";

(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", color);
  color();

  SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#api",
    deepLinking: true,
    validatorUrl: null, // the validator is on another site
    requestInterceptor: (request) => {
      const key = sessionStorage.getItem("pg_semantic.key");
      if (key && !request.headers.Authorization) request.headers.Authorization = `Bearer ${key}`;
      return request;
    },
  });
})();
