// Browsers start no worker for a page that was opened from a folder, and the search is one.
// There a hidden frame does a worker's work. The theme fetches such a script from elsewhere unless
// one is named as this file is.
if (location.protocol === "file:") {
  window.Worker = class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      // What the frame's script calls to answer, and to load more.
      inside.postMessage = (data) => this.#hear(data);
      inside.importScripts = (...more) =>
        more.reduce((before, one) => before.then(() => this.#load(one)), Promise.resolve());
      this.frame = frame;
      this.loaded = this.#load(url);
    }

    postMessage(data) {
      this.loaded.then(() => {
        const inside = this.frame.contentWindow;
        inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      });
    }

    terminate() {
      this.frame.remove();
    }

    #hear(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    #load(url) {
      const inside = this.frame.contentDocument;
      const script = inside.createElement("script");
      script.src = url;
      return new Promise((done, failed) => {
        script.onload = done;
        script.onerror = failed;
        inside.body.append(script);
      });
    }
  };
}
