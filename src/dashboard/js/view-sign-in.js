// Signing in: a one-time link does it by itself; a token can be pasted here.
import { html, useState } from "./lib.js";
import { t, toggleLanguage } from "./i18n.js";
import { failure, signIn } from "./session.js";

export function SignIn() {
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const field = event.target.elements.token;
    const token = field.value.trim();
    if (!token) return;
    setBusy(true);
    await signIn({ token });
    setBusy(false);
    field.value = "";
    field.focus();
  };
  return html`
    <main class="sign-in">
      <div class="sign-in-card">
        <p class="brand"><${Mark} /> Watchpost</p>
        <h1 tabindex="-1">${t("sign_in.title")}</h1>
        <p>${t("sign_in.how")}</p>
        <pre><code>watchpost login-link</code></pre>
        <form onSubmit=${submit}>
          <label for="token">${t("sign_in.token")}</label>
          <input id="token" name="token" type="password" autocomplete="off" spellcheck="false" required autofocus />
          <button class="primary" type="submit" disabled=${busy}>${t("sign_in.submit")}</button>
        </form>
        <p class="error" role="alert">${failure.value && t(failure.value)}</p>
        <button class="quiet" type="button" onClick=${toggleLanguage}>${t("other_language")}</button>
      </div>
    </main>`;
}

export const Mark = () => html`<svg class="mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
  <rect width="32" height="32" rx="7" /><path d="M5 17h5l3-8 5 15 3.5-9H27" /></svg>`;
