// The server's token: asked for once, kept as long as the tab.

const KEY = "maskwright.token";

/** The token that was given, or null. */
export function knownToken() {
  return sessionStorage.getItem(KEY);
}

/**
 * Asks the person for a token and keeps it.
 * @param {(id: string) => HTMLElement} part
 * @param {boolean} refused whether the last one was wrong
 */
export function askToken(part, refused) {
  sessionStorage.removeItem(KEY);
  if (refused) part("token-hint").textContent = "The server refused that token. Try again.";
  part("token").value = "";
  const dialog = part("token-dialog");
  return new Promise((resolve) => {
    const keep = () => {
      if (!part("token").value.trim()) {
        dialog.showModal(); // closed by Escape: without a token there is nothing to do here
        return;
      }
      dialog.removeEventListener("close", keep);
      sessionStorage.setItem(KEY, part("token").value.trim());
      resolve();
    };
    dialog.addEventListener("close", keep);
    dialog.showModal();
  });
}
