import { useApp } from "../state/app";
import { focusOn } from "./focus";
import { IconButton } from "./icons";

export function NoticeBar() {
  const { library, notices } = useApp();
  const { current } = notices;
  const notice = current.value?.beside && current.value.beside !== library.openId.value ? null : current.value;
  return (
    <div class="notice-place" role="status">
      {notice && (
        <div class="notice">
          <span>{notice.text}</span>
          {notice.action && (
            <button
              type="button"
              class="link"
              onClick={() => {
                notice.action?.run();
                notices.dismiss();
                focusOn();
              }}
            >
              {notice.action.label}
            </button>
          )}
          <IconButton icon="close" label="Dismiss" onClick={() => notices.dismiss()} />
        </div>
      )}
    </div>
  );
}
