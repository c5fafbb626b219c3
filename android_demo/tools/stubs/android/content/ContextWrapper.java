package android.content;

public class ContextWrapper extends Context {
    public ContextWrapper(Context base) { throw null; }

    public ComponentName startForegroundService(Intent service) { throw null; } // 26
}
