// Lets the search run on pages that are opened as files, for which browsers start no workers.
//
// The theme looks for this name. The script of the "worker" runs in a hidden frame, which has what
// such a script needs: messages in both directions, and `importScripts`.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    this.ready = new Promise((resolve) => {
      frame.onload = resolve;
      (document.body || document.documentElement).append(frame);
    }).then(async () => {
      const inner = frame.contentWindow;
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = inner.document.createElement("script");
          script.src = source;
          script.onload = resolve;
          script.onerror = reject;
          inner.document.head.append(script);
        });
      inner.importScripts = async (...sources) => {
        for (const source of sources) await load(source);
      };
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      await load(url);
      return inner;
    });
  }

  postMessage(data) {
    this.ready.then((inner) => inner.dispatchEvent(new MessageEvent("message", { data })));
  }
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
