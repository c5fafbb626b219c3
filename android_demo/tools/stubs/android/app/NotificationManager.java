package android.app;

public class NotificationManager {
    public static final int IMPORTANCE_LOW = 2; // 24

    public void createNotificationChannel(NotificationChannel channel) { throw null; } // 26
}
