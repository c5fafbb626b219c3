package android.app;

import android.content.Context;

public class Notification {
    public static final int FOREGROUND_SERVICE_IMMEDIATE = 1; // 31

    public static class Builder {
        public Builder(Context context, String channelId) { throw null; } // 26

        public Builder setForegroundServiceBehavior(int behavior) { throw null; } // 31
    }
}
