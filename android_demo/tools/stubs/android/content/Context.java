package android.content;

public abstract class Context {
    public abstract ComponentName startForegroundService(Intent service); // 26
}
