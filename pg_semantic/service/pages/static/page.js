// What every page does: sends the key with each request, and says what went wrong.
"use strict";

(() => {
  const PLACE = "pg_semantic.key";
  const SENDABLE = /^[\x21-\x7e]+$/; // in a header
  const said = document.getElementById("said");
  const trouble = document.getElementById("trouble");
  const panel = document.getElementById("key-panel");
  const input = document.getElementById("key");

  function say(message) {
    trouble.textContent = message;
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

  // A trouble is over when the same request succeeds, or something is done: not when another part refreshes itself.
  let troubled = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.requestConfig.verb !== "get") say("");
    if (event.detail.elt.matches("form")) said.textContent = "Working \u2026";
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && event.detail.pathInfo.requestPath === troubled) say("");
  });

  document.addEventListener("htmx:responseError", (event) => {
    const { status, responseText } = event.detail.xhr;
    let message = `The service answered ${status}.`;
    try {
      message = JSON.parse(responseText).error.message;
    } catch {
      // Not one of the service's own answers: a proxy's, perhaps.
    }
    troubled = event.detail.pathInfo.requestPath;
    say(status === 401 ? "This page needs the service's API key." : message);
    if (status === 401 && panel) askForKey();
  });

  document.addEventListener("htmx:sendError", (event) => {
    troubled = event.detail.pathInfo.requestPath;
    say("The service can not be reached.");
  });
})();
