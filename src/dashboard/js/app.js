// The page: signs in, then shows one of its pages under a head that says whether it is true now.
import { effect, html, render } from "./lib.js";
import { emergencies, open } from "./alert-store.js";
import { isStale } from "./connection.js";
import { t } from "./i18n.js";
import { route } from "./router.js";
import { begin, state } from "./session.js";
import "./shown.js";
import "./sound.js";
import { Announcer } from "./announce.js";
import { Help } from "./view-help.js";
import { Shell } from "./view-shell.js";
import { SignIn } from "./view-sign-in.js";
import { PopUp } from "./view-popup.js";
import { Away } from "./view-away.js";
import { Toasts } from "./view-toasts.js";
import { AlertsPage } from "./view-alerts.js";
import { DevicesPage } from "./view-devices.js";
import { DevicePage } from "./view-device.js";
import { OverviewPage } from "./view-overview.js";
import { SystemPage } from "./view-system.js";
import "./keys.js";

function Page() {
  const { page, argument } = route.value;
  if (page === "devices") return argument ? html`<${DevicePage} key=${argument} serial=${argument} />` : html`<${DevicesPage} />`;
  if (page === "overview") return html`<${OverviewPage} />`;
  if (page === "system") return html`<${SystemPage} />`;
  return html`<${AlertsPage} selected=${argument} />`;
}

function App() {
  if (state.value === "unknown") return html`<p class="starting" role="status">${t("connecting")}</p>`;
  if (state.value === "out") return html`<${SignIn} />`;
  return html`
    <${Shell}><${Page} /><//>
    <${Away} />
    <${Toasts} />
    <${Help} />
    <${PopUp} />
    <${Announcer} />`;
}

effect(() => {
  const waiting = emergencies.value.length;
  const name = state.value === "in" ? t("page." + route.value.page) + " · Watchpost" : "Watchpost";
  document.title = waiting ? "(" + waiting + ") " + t("title.emergency") + " · Watchpost" : name;
});

effect(() => {
  document.body.classList.toggle("stale", state.value === "in" && isStale.value);
});

// For tests and for those who look: how many alerts the page holds.
effect(() => {
  document.body.dataset.open = open.value.length;
});

render(html`<${App} />`, document.getElementById("app"));
begin();
