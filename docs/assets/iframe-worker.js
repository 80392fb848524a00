// Search without a server. Browsers start no worker for a page that was opened from a disk, so there the search runs in a hidden frame that
// speaks like a worker; on a server this file does nothing.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = this.onerror = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.waiting = [];
      this.take = (event) => {
        if (event.source !== this.frame.contentWindow) return;
        if (event.data && event.data.frameReady) {
          this.waiting.forEach((data) => this.send(data));
          this.waiting = null;
          return;
        }
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      };
      window.addEventListener("message", this.take);
      const inside = `
        const answer = (data) => parent.postMessage(data, "*");
        self.postMessage = answer;
        self.addEventListener("message", (event) => { if (event.source !== parent) event.stopImmediatePropagation(); });
        self.importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((resolve, reject) => {
          const script = document.createElement("script");
          Object.assign(script, { src: url, onload: resolve, onerror: reject });
          document.body.append(script);
        })));
        addEventListener("load", () => answer({ frameReady: true }));`;
      this.frame.srcdoc = `<body><script>${inside}<\/script><script src="${new URL(url, document.baseURI)}"><\/script>`;
      (document.body || document.documentElement).append(this.frame);
    }

    send(data) {
      const own = Object.getPrototypeOf(this.frame.contentWindow).postMessage || window.postMessage;
      own.call(this.frame.contentWindow, data, "*");
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.send(data);
    }

    terminate() {
      window.removeEventListener("message", this.take);
      this.frame.remove();
    }
  };
}
