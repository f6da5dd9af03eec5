// Follows a job that still runs: each commit that becomes durable refreshes the page in place. Opened rows
// stay open. Without scripts the page shows the job as it was when the page was loaded.
"use strict";
const place = document.querySelector("[data-stream]");
if (place) {
  const source = new EventSource(place.dataset.stream);
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        // Its own styles and scripts belong to another nonce and are not wanted.
        const text = await answer.text();
        const main = text.slice(text.indexOf("<main>"), text.lastIndexOf("</main>") + 7);
        const fresh = new DOMParser().parseFromString(main, "text/html").querySelector("main");
        const old = document.querySelector("main");
        const known = new Map([...old.querySelectorAll("details[id]")].map(row => [row.id, row.open]));
        for (const row of fresh.querySelectorAll("details[id]")) if (known.has(row.id)) row.open = known.get(row.id);
        old.replaceWith(fresh);
      }
    } finally {
      // A job may commit a thousand times a second; the page is drawn again at most every 0.4 s.
      setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, 400);
    }
  };
  source.onmessage = refresh;
  const over = () => { source.close(); setTimeout(refresh, 150); };
  source.addEventListener("end", over);
  source.addEventListener("refused", over);
}
