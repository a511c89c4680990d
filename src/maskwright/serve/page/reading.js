// A picture that the server has read: uploaded once, asked often, uploaded again when the server has forgotten it.

export class Reading {
  /**
   * @param {import("./api.js").Api} api
   * @param {File} file the picture, kept so that it can be uploaded again
   */
  constructor(api, file) {
    Object.assign(this, { api, file, name: file.name.replace(/\.[^.]*$/, "") || "picture", leaving: new AbortController() });
    this.uploaded = this.#upload();
    this.uploaded.catch(() => {}); // whoever waits for it is told
  }

  /** Width and height in pixels, as the server sees the picture. */
  async size() {
    const { width, height } = await this.uploaded;
    return { width, height };
  }

  /**
   * A request to the reading.
   * @param {string} what after the reading's address: "segment", "heat?label=dog"
   * @param {{json?: object, signal?: AbortSignal}} options
   * @returns {Promise<Response>}
   */
  async ask(what, options) {
    const before = this.uploaded;
    try {
      return await this.api.request(`v1/readings/${(await before).id}/${what}`, options);
    } catch (error) {
      if (error.code !== "reading_unknown") throw error;
      if (this.uploaded === before) this.uploaded = this.#upload();
      return this.api.request(`v1/readings/${(await this.uploaded).id}/${what}`, options);
    }
  }

  /** The picture is not looked at any more: the server may forget it, too. */
  async leave() {
    this.leaving.abort();
    const stored = await this.uploaded.catch(() => null);
    if (stored) await this.api.request(`v1/readings/${stored.id}`, { method: "DELETE" }).catch(() => {});
  }

  #upload() {
    const form = new FormData();
    form.append("image", this.file, this.file.name);
    return this.api.json("v1/readings", { form, signal: this.leaving.signal });
  }
}
