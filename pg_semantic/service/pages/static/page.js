// Common to all pages: sends the key with each request, and shows errors.
"use strict";

(() => {
  const PLACE = "pg_semantic.key";
  const SENDABLE = /^[\x21-\x7e]+$/; // allowed in a header
  const said = document.getElementById("said");
  const problem = document.getElementById("problem");
  const panel = document.getElementById("key-panel");
  const input = document.getElementById("key");

  function say(message) {
    problem.textContent = message;
    if (message) said.textContent = "";
  }

  function askForKey() {
    panel.open = true;
    input.focus();
  }

  function keyChanged() {
    say("");
    input.value = "";
    htmx.trigger(document.body, "key");
  }

  if (panel) {
    document.getElementById("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(PLACE, input.value.trim());
      panel.open = false;
      keyChanged();
    });
    document.getElementById("key-forget").addEventListener("click", () => {
      sessionStorage.removeItem(PLACE);
      keyChanged();
    });
  }

  document.addEventListener("htmx:configRequest", (event) => {
    const key = sessionStorage.getItem(PLACE);
    if (key && SENDABLE.test(key)) event.detail.headers["Authorization"] = `Bearer ${key}`;
  });

  // An error stays until the same request succeeds or the user acts: a refresh of another part doesn't clear it.
  let affected = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.requestConfig.verb !== "get") say("");
    const { elt } = event.detail;
    if (elt.matches("form")) said.textContent = elt.dataset.working ?? "Working \u2026";
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && event.detail.pathInfo.requestPath === affected) say("");
  });

  document.addEventListener("htmx:responseError", (event) => {
    const { status, responseText } = event.detail.xhr;
    let message = `The service answered with status ${status}.`;
    try {
      message = JSON.parse(responseText).error.message;
    } catch {
      // Not a response of the service, but perhaps of a proxy.
    }
    affected = event.detail.pathInfo.requestPath;
    say(status === 401 ? "This page needs the service's API key." : message);
    if (status === 401 && panel) askForKey();
  });

  document.addEventListener("htmx:sendError", (event) => {
    affected = event.detail.pathInfo.requestPath;
    say("Cannot reach the service. Check that it is running.");
  });
})();
