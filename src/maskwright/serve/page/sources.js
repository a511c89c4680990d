// Where pictures come from: the file dialog, examples, dropping, pasting.

/**
 * Listens for pictures.
 * @param {(id: string) => HTMLElement} part
 * @param {(file: File, words: string | null) => void} onPicture a picture was given; examples come with words
 * @param {(error: Error) => void} onError an example could not be loaded
 */
export function listen(part, onPicture, onError) {
  part("choose").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    const [file] = part("file").files;
    part("file").value = ""; // so that the same file can be chosen again
    if (file) onPicture(file, null);
  });
  part("examples").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) load(button).then((file) => onPicture(file, button.dataset.words), onError);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    onPicture(file, null);
  });
  listenForDrops(part("drop"), (file) => onPicture(file, null));
}

/** The button of the first example whose words are all known. @returns {HTMLElement | undefined} */
export function firstExample(part, knows) {
  return [...part("examples").children].find((button) => knows(button.dataset.words.split(",")));
}

async function load(button) {
  const address = button.dataset.src;
  const blob = await (await fetch(address)).blob();
  return new File([blob], address.split("/").pop(), { type: blob.type });
}

function listenForDrops(curtain, onFile) {
  const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => { if (holdsFile(event)) curtain.hidden = false; });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) curtain.hidden = true; });
  document.addEventListener("dragover", (event) => { if (holdsFile(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    curtain.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    onFile(file);
  });
}
