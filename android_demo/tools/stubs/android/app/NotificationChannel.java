package android.app;

public final class NotificationChannel { // 26
    public NotificationChannel(String id, CharSequence name, int importance) { throw null; }
}
