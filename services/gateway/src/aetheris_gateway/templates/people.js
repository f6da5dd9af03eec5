// Decisions are sent as JSON to the same API that all clients use; its answer is shown beside the button.
"use strict";
const said = (card, text, wrong) => {
  const place = card.querySelector(".said");
  place.textContent = text;
  place.classList.toggle("wrong", wrong);
};
const value = (card, name) => card.querySelector(`[name="${name}"]`)?.value.trim() ?? "";
for (const button of document.querySelectorAll("button[data-post]")) {
  button.addEventListener("click", async () => {
    const card = button.closest(".asked"), body = JSON.parse(button.dataset.body), text = value(card, "comment");
    if (text) body[button.dataset.comment] = text;
    const field = button.dataset.value, area = field && card.querySelector(`[name="${field}"]`);
    let sent = JSON.stringify(body);
    if (area) {
      // Sent as it was typed: JSON.parse would round numbers to what a browser can hold.
      const typed = area.value.trim() || "null";
      try {
        JSON.parse(typed);
      } catch (wrong) {
        said(card, `This is not JSON: ${wrong.message}`, true);
        return;
      }
      sent = `${sent.slice(0, -1)}${sent === "{}" ? "" : ","}${JSON.stringify(field)}:${typed}}`;
    }
    const buttons = card.querySelectorAll("button");
    for (const each of buttons) each.disabled = true;
    let heard = false;
    try {
      const answer = await fetch(button.dataset.post, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: sent,
      });
      const told = await answer.json();
      heard = answer.ok;
      said(card, answer.ok ? button.dataset.said : told.error.message, !answer.ok);
    } catch {
      said(card, "The gateway did not answer. Trying again is safe.", true);
    }
    for (const each of buttons) each.disabled = heard;
  });
}
