// Requests to the service, with the API key where one is needed. The key lives as long as the tab.

const dialog = document.getElementById("key-dialog");
let asking = null;

export async function request(path, options = {}) {
  const send = () => {
    const key = sessionStorage.getItem("key");
    const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
    return fetch(path, { ...options, headers });
  };
  const response = await send();
  if (response.status !== 401) return response;
  await askForKey();
  return send();
}

// Shows a picture of a photo. An <img> cannot send a key, so with a key the picture is fetched first.
export async function showPicture(image, path) {
  if (!sessionStorage.getItem("key")) {
    image.src = path;
    return;
  }
  const response = await request(path);
  if (!response.ok) return;
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.src = URL.createObjectURL(await response.blob());
}

function askForKey() {
  asking ??= new Promise((resolve) => {
    sessionStorage.removeItem("key");
    dialog.addEventListener("close", () => {
      const key = document.getElementById("key").value.trim();
      if (key) sessionStorage.setItem("key", key);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
