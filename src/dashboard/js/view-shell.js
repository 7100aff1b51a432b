// What is around every page: where one is, and whether what is shown is true now.
import { html } from "./lib.js";
import { emergencies, open } from "./alert-store.js";
import { now } from "./clock.js";
import { heardAt, isStale, link, lostAt, retryAt, retryNow } from "./connection.js";
import { clock, instant, span } from "./format.js";
import { count, t, toggleLanguage } from "./i18n.js";
import { isDark, soundOn, toggleTheme } from "./prefs.js";
import { PAGES, href, route } from "./router.js";
import { caller, failure, isCustomers, signOut } from "./session.js";
import { allow, blocked } from "./sound.js";
import { helpOpen } from "./view-help.js";

import { minimized, restore } from "./view-popup.js";
import { Icon } from "./view-parts.js";
import { outdated } from "./version.js";
import { Mark } from "./view-sign-in.js";

// A sign-in that ends within this is said, milliseconds: time to get another link.
const ENDING_MS = 30 * 60_000;

// When the sign-in ends, by the server's clock, if that is soon; else 0.
function endsAt() {
  const at = caller.value?.expires_at ? instant(caller.value.expires_at) : 0;
  return at - now.value <= ENDING_MS ? at : 0;
}

const waiting = () => open.value.filter((alert) => alert.state === "raised").length;

function Navigation() {
  return html`<nav aria-label=${t("nav")}>
    <ul>${PAGES.filter((page) => page !== "system" || !isCustomers()).map((page) => html`
      <li key=${page}><a href=${href(page)} aria-current=${route.value.page === page ? "page" : undefined}>
        <${Icon} name=${page} /><span class="nav-name">${t("page." + page)}</span>
        ${page === "alerts" && waiting() > 0 && html`<span class=${emergencies.value.length ? "tally critical" : "tally"}
          ><span class="heard">${t("nav.waiting")}</span>${waiting()}</span>`}
      </a></li>`)}
    </ul>
  </nav>`;
}

// Live, and how long ago the server last said so.
function LinkState() {
  const state = link.value;
  const age = Math.max(0, now.value - heardAt.value);
  const stale = isStale.value;
  const name = state === "live" && stale ? "silent" : state;
  return html`<p class=${"link " + name} data-link=${name} title=${heardAt.value ? clock(heardAt.value) : ""}>
    <span class="dot" aria-hidden="true"></span>
    <span class="link-name">${t("link." + name)}</span>
    ${heardAt.value > 0 && html`<span class="link-age">${age < 1500 && state === "live" ? t("link.now") : span(age)}</span>`}
  </p>`;
}

function Banners() {
  const lost = link.value === "lost";
  const silent = link.value === "live" && isStale.value;
  const left = Math.max(0, Math.ceil((retryAt.value - Date.now()) / 1000));
  now.value;
  return html`<div class="banners">
    ${lost && html`<div class="banner lost">
      <strong role="alert">${t("lost.title")}</strong>
      <span>${lostAt.value ? t("lost.since", { at: clock(lostAt.value), span: span(now.value - lostAt.value) }) : t("lost.never")}</span>
      <span aria-hidden="true">${left > 0 ? t("lost.retry_in", { s: left }) : t("lost.trying")}</span>
      <button type="button" onClick=${retryNow}>${t("lost.now")}</button>
    </div>`}
    ${silent && html`<div class="banner lost"><strong role="alert">${t("silent.title")}</strong>
      <span>${t("lost.since", { at: clock(heardAt.value), span: span(now.value - heardAt.value) })}</span></div>`}
    ${minimized.value > 0 && html`<div class="banner critical" role="status">
      <strong>${count("minimized", minimized.value)}</strong>
      <button type="button" onClick=${restore}>${t("minimized.show")}</button></div>`}
    ${failure.value && html`<div class="banner sound refused"><span role="alert">${t(failure.value)} ${t("sign_in.stay")}</span>
      <button type="button" onClick=${() => { failure.value = ""; }}>${t("close")}</button></div>`}
    ${endsAt() > 0 && html`<div class="banner sound ending" role="status"><span>${t("sign_in.ends", { at: clock(endsAt(), Date.now(), false) })} <code>watchpost login-link</code></span></div>`}
    ${outdated.value && html`<div class="banner sound outdated"><span>${t("outdated")}</span>
      <button type="button" onClick=${() => location.reload()}>${t("outdated.reload")}</button></div>`}
    ${blocked.value && html`<div class="banner sound"><${Icon} name="muted" />
      <span>${t("sound.blocked")}</span><button type="button" onClick=${allow}>${t("sound.allow")}</button></div>`}
    ${!soundOn.value && html`<div class="banner sound"><${Icon} name="muted" />
      <span>${t("sound.off")}</span><button type="button" onClick=${allow}>${t("sound.on")}</button></div>`}
  </div>`;
}

function Tools() {
  return html`<div class="tools">
    <button type="button" class="tool" aria-pressed=${soundOn.value} title=${t(soundOn.value ? "sound.mute" : "sound.on")}
      onClick=${() => (soundOn.value ? (soundOn.value = false) : allow())}>
      <${Icon} name=${soundOn.value ? "sound" : "muted"} /><span class="heard">${t("sound")}</span></button>
    <button type="button" class="tool" title=${t("theme.toggle")} onClick=${toggleTheme}>
      <${Icon} name=${isDark() ? "sun" : "moon"} /><span class="heard">${t("theme.toggle")}</span></button>
    <button type="button" class="tool language" onClick=${toggleLanguage}>${t("other_language")}</button>
    <button type="button" class="tool wide" title=${t("help")} onClick=${() => { helpOpen.value = true; }}>
      <${Icon} name="help" /><span class="heard">${t("help")}</span></button>
    <button type="button" class="tool" title=${t("sign_out")} onClick=${signOut}>
      <${Icon} name="out" /><span class="heard">${t("sign_out")}</span></button>
  </div>`;
}

export function Shell({ children }) {
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("main h1")?.focus(); }}>${t("skip")}</a>
    <div class="shell">
      <header class="top">
        <p class="brand"><${Mark} /><span class="brand-name">Watchpost</span></p>
        <${LinkState} />
        <span class="caller">${caller.value?.name}</span>
        <${Tools} />
      </header>
      <${Navigation} />
      <${Banners} />
      <main id="main">${children}</main>
    </div>`;
}
